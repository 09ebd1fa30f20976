// The families of models that are known: each plans its models in a file of its own.
#ifndef SALIENT_CORE_MODEL_FAMILIES_FAMILY_H_
#define SALIENT_CORE_MODEL_FAMILIES_FAMILY_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/model/model.h"

namespace salient {

struct Family {
  absl::string_view architecture;  // It is e.g. "LlamaForCausalLM".
  Model (*plan)(const ModelConfig& config);
};

// Returns all that are known. The storage is static.
absl::Span<const Family> Families();

// Plans the model that `config` describes, by its family. UNIMPLEMENTED naming the config's file,
// its architecture and those we know.
absl::StatusOr<Model> PlanModel(const ModelConfig& config);

Model PlanLlama(const ModelConfig& config);
Model PlanMistral(const ModelConfig& config);
Model PlanQwen2(const ModelConfig& config);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_FAMILIES_FAMILY_H_
