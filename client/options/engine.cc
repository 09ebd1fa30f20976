#include "client/options/engine.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/options/enum_text.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

absl::StatusOr<v1::Engine> ToEngine(const std::string& name) {
  const std::optional<v1::Engine> engine = EnumNamed<v1::Engine>(name);
  if (engine.has_value()) return *engine;
  return absl::InvalidArgumentError(absl::StrCat("--engine ", QuoteForMessage(name), "; expected ",
                                                 absl::StrJoin(FlagTexts<v1::Engine>(), " or ")));
}

}  // namespace

std::string EngineText(v1::Engine engine) {
  const std::string text = EnumText(engine);
  return text.empty() ? absl::StrCat("engine ", static_cast<int>(engine)) : text;
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
