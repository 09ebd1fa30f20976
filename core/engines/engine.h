// The programs that load checkpoints, by name.
#ifndef SALIENT_CORE_ENGINES_ENGINE_H_
#define SALIENT_CORE_ENGINES_ENGINE_H_

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace salient {

enum class Engine {
  kVllm,          // on GPUs
  kVllmCpu,       // on CPUs
  kSglang,        // on GPUs
  kTgi,           // Text Generation Inference, on GPUs
  kLmdeploy,      // its TurboMind engine
  kTransformers,  // 5, with GPTQModel's and compressed-tensors' kernels
  kLlamaCpp,      // its converter to GGUF
};

// All of them, in order of declaration.
absl::Span<const Engine> AllEngines();

// "vllm", "vllm-cpu", "sglang", "tgi", "lmdeploy", "transformers", "llama-cpp".
absl::string_view EngineName(Engine engine);

// Returns the version that all that this room says of the engine was read or seen in: "0.32".
absl::string_view EngineVersion(Engine engine);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_ENGINE_H_
