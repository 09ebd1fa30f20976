// Holds what the generations of Gemma share.
#ifndef SALIENT_CORE_MODEL_FAMILIES_GEMMA_H_
#define SALIENT_CORE_MODEL_FAMILIES_GEMMA_H_

#include <optional>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/config/fields.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"
#include "core/model/families/block_builder.h"
#include "core/model/model.h"

namespace salient {

// Returns the members that all their config classes have.
absl::Span<const ConfigKey> GemmaKeys();

// Reads query_pre_attn_scalar, and refuses attention to what follows.
double ReadGemmaScalar(ConfigFields& fields);
// Reads a soft cap, which a null takes away; `otherwise` if it is left out.
std::optional<double> ReadGemmaCap(absl::string_view field, std::optional<double> otherwise,
                                   ConfigFields& fields);

// Returns the rule of a norm by 1 + w.
NormRule GemmaRule(const ModelConfig& config);
// Returns the parts of a block, each between two norms. Scores are divided by the root of
// `query_scalar`.
AttentionParts GemmaAttention(const ModelConfig& config, double query_scalar);
MlpParts GemmaMlp(const ModelConfig& config);
// Multiplies embeddings by the root of hidden_size and makes the final norm one of 1 + w.
Model AsGemma(Model model);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_FAMILIES_GEMMA_H_
