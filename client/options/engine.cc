#include "client/options/engine.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

const std::vector<std::pair<std::string, v1::Engine>>& Engines() {
  static const std::vector<std::pair<std::string, v1::Engine>> names = {
      {"vllm", v1::ENGINE_VLLM},          {"vllm-cpu", v1::ENGINE_VLLM_CPU},
      {"sglang", v1::ENGINE_SGLANG},      {"tgi", v1::ENGINE_TGI},
      {"lmdeploy", v1::ENGINE_LMDEPLOY},  {"transformers", v1::ENGINE_TRANSFORMERS},
      {"llama-cpp", v1::ENGINE_LLAMA_CPP}};
  return names;
}

absl::StatusOr<v1::Engine> ToEngine(const std::string& name) {
  for (const auto& [known, engine] : Engines()) {
    if (known == name) return engine;
  }
  return absl::InvalidArgumentError(absl::StrCat("--engine ", QuoteForMessage(name), "; expected ",
                                                 absl::StrJoin(EngineNames(), " or ")));
}

}  // namespace

std::vector<std::string> EngineNames() {
  std::vector<std::string> names;
  for (const auto& [name, engine] : Engines()) names.push_back(name);
  return names;
}

std::string EngineText(v1::Engine engine) {
  for (const auto& [name, known] : Engines()) {
    if (known == engine) return name;
  }
  return absl::StrCat("engine ", static_cast<int>(engine));
}

absl::Status AddEngines(const EngineOptions& options, v1::QuantizeTask& task) {
  for (const std::string& name : options.engines) {
    const auto engine = ToEngine(name);
    if (!engine.ok()) return engine.status();
    task.add_engines(*engine);
  }
  task.set_tensor_parallel(options.tensor_parallel);
  return absl::OkStatus();
}

absl::Status CheckServerKnows(const v1::GetServerInfoResponse& info, v1::Engine engine) {
  std::vector<std::string> known;
  for (const int other : info.engines()) {
    if (other == engine) return absl::OkStatus();
    known.push_back(EngineText(static_cast<v1::Engine>(other)));
  }
  return absl::UnimplementedError(absl::StrCat("--engine ", EngineText(engine),
                                               ": this server does not know it; it knows ",
                                               absl::StrJoin(known, ", ")));
}

}  // namespace salient::client
