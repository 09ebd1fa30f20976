// Names the programs that load checkpoints.
#ifndef SALIENT_CORE_ENGINES_ENGINE_H_
#define SALIENT_CORE_ENGINES_ENGINE_H_

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace salient {

enum class Engine {
  kVllm,          // It runs on GPUs.
  kVllmCpu,       // It runs on CPUs.
  kSglang,        // It runs on GPUs.
  kTgi,           // Text Generation Inference runs on GPUs.
  kLmdeploy,      // It is its TurboMind engine.
  kTransformers,  // It is version 5, with GPTQModel's and compressed-tensors' kernels.
  kLlamaCpp,      // It is its converter to GGUF.
};

// Returns all of them, in order of declaration.
absl::Span<const Engine> AllEngines();

// Returns "vllm", "vllm-cpu", "sglang", "tgi", "lmdeploy", "transformers" or "llama-cpp".
absl::string_view EngineName(Engine engine);

// Returns the version that all that this room says of the engine was read or seen in: "0.32".
absl::string_view EngineVersion(Engine engine);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_ENGINE_H_
