#include "core/engines/engine.h"

namespace salient {

absl::Span<const Engine> AllEngines() {
  static constexpr Engine kAll[] = {Engine::kVllm,    Engine::kVllmCpu,  Engine::kSglang,
                                    Engine::kTgi,     Engine::kLmdeploy, Engine::kTransformers,
                                    Engine::kLlamaCpp};
  return kAll;
}

absl::string_view EngineName(Engine engine) {
  switch (engine) {
    case Engine::kVllm:
      return "vllm";
    case Engine::kVllmCpu:
      return "vllm-cpu";
    case Engine::kSglang:
      return "sglang";
    case Engine::kTgi:
      return "tgi";
    case Engine::kLmdeploy:
      return "lmdeploy";
    case Engine::kTransformers:
      return "transformers";
    case Engine::kLlamaCpp:
      return "llama-cpp";
  }
  return "";
}

}  // namespace salient
