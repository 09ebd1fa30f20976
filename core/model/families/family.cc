#include "core/model/families/family.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/text/quote.h"

namespace salient {

absl::Span<const Family> Families() {
  static constexpr Family kFamilies[] = {
      // Llama 1 to 3, Vicuna and everything else that calls itself one.
      {"LlamaForCausalLM", PlanLlama},
      {"MistralForCausalLM", PlanMistral},
      {"Qwen2ForCausalLM", PlanQwen2},
  };
  return kFamilies;
}

absl::StatusOr<Model> PlanModel(const ModelConfig& config) {
  std::vector<absl::string_view> known;
  for (const Family& family : Families()) {
    if (family.architecture == config.architecture) return family.plan(config);
    known.push_back(family.architecture);
  }
  return absl::UnimplementedError(absl::StrCat(config.source, ": architectures[0] is ",
                                               QuoteForMessage(config.architecture),
                                               "; expected one of ", absl::StrJoin(known, ", ")));
}

}  // namespace salient
