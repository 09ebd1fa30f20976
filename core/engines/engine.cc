#include "core/engines/engine.h"

namespace salient {
namespace {

struct EngineRow {
  Engine engine;
  absl::string_view name;
  absl::string_view version;
};

constexpr EngineRow kEngines[] = {
    {Engine::kVllm, "vllm", "0.32"},
    {Engine::kVllmCpu, "vllm-cpu", "0.32"},
    {Engine::kSglang, "sglang", "0.5.23"},
    {Engine::kTgi, "tgi", "3.3.6"},
    {Engine::kLmdeploy, "lmdeploy", "0.18"},
    // It was read with optimum 2.3, GPTQModel 7.7 and compressed-tensors 0.20.1.
    {Engine::kTransformers, "transformers", "5.24"},
    // It has a build a day, so this is the month.
    {Engine::kLlamaCpp, "llama-cpp", "2026-11"},
};

const EngineRow& Find(Engine engine) {
  for (const EngineRow& row : kEngines) {
    if (row.engine == engine) return row;
  }
  return kEngines[0];
}

}  // namespace

absl::Span<const Engine> AllEngines() {
  static constexpr Engine kAll[] = {Engine::kVllm,    Engine::kVllmCpu,  Engine::kSglang,
                                    Engine::kTgi,     Engine::kLmdeploy, Engine::kTransformers,
                                    Engine::kLlamaCpp};
  return kAll;
}

absl::string_view EngineName(Engine engine) { return Find(engine).name; }

absl::string_view EngineVersion(Engine engine) { return Find(engine).version; }

}  // namespace salient
