#include "core/model/families/family.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/text/quote.h"

namespace salient {

absl::Span<const Family> Families() {
  static const auto* const families = new std::vector<Family>{
      LlamaFamily(), MistralFamily(), Qwen2Family(),   OptFamily(),        Qwen3Family(),
      Phi3Family(),  Gemma2Family(),  Gemma3Family(),  Ministral3Family(), GraniteFamily(),
      Olmo2Family(), Olmo3Family(),   SmolLm3Family(), Lfm2Family(),
  };
  return *families;
}

absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view source, absl::string_view json) {
  std::vector<const ConfigClass*> classes;
  for (const Family& family : Families()) classes.push_back(&family.config_class);
  return ParseModelConfig(classes, source, json);
}

absl::StatusOr<Model> PlanModel(const ModelConfig& config) {
  for (const Family& family : Families()) {
    if (family.architecture() == config.architecture) return family.plan(config);
  }
  return absl::UnimplementedError(absl::StrCat(config.source, ": architectures[0] is ",
                                               QuoteForMessage(config.architecture), "; expected ",
                                               kKnownFamilies));
}

}  // namespace salient
