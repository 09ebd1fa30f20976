#include "core/model/families/gemma.h"

#include <cmath>

#include "core/model/block_plan.h"
#include "core/model/families/decoder.h"

namespace salient {

absl::Span<const ConfigKey> GemmaKeys() {
  static constexpr ConfigKey kKeys[] = {
      {"num_key_value_heads", kIntegerValue},
      {"head_dim", kIntegerValue},
      {"hidden_activation", kStringValue},
      {"rms_norm_eps", kFloatValue},
      {"attention_bias", kBoolValue},
      {"attention_dropout", kNumber | kNullValue},
      {"query_pre_attn_scalar", kIntegerValue},
      {"sliding_window", kOptionalInteger},
      {"layer_types", kArrayValue | kNullValue},
      {"final_logit_softcapping", kFloatValue | kNullValue},
      {"attn_logit_softcapping", kFloatValue | kNullValue},
      {"use_bidirectional_attention", kBoolValue | kNullValue},
  };
  return kKeys;
}

double ReadGemmaScalar(ConfigFields& fields) {
  if (fields.Bool("use_bidirectional_attention").value_or(false)) {
    fields.Unsupported("use_bidirectional_attention", "true", "false: a causal model");
  }
  return fields.Number("query_pre_attn_scalar", 1e-6, 1e9).value_or(256);
}

std::optional<double> ReadGemmaCap(absl::string_view field, std::optional<double> otherwise,
                                   ConfigFields& fields) {
  if (fields.IsNull(field)) return std::nullopt;
  const std::optional<double> cap = fields.Number(field, 1e-6, 1e9);
  return cap.has_value() ? cap : otherwise;
}

NormRule GemmaRule(const ModelConfig& config) {
  NormRule rule = RmsRule(config);
  rule.plus_one = true;
  return rule;
}

AttentionParts GemmaAttention(const ModelConfig& config, double query_scalar) {
  AttentionParts parts;
  parts.norms = {GemmaRule(config), "input_layernorm", "post_attention_layernorm"};
  parts.input_bias = parts.output_bias = config.attention_bias;
  parts.scale = 1 / std::sqrt(query_scalar);
  return parts;
}

MlpParts GemmaMlp(const ModelConfig& config) {
  MlpParts parts;
  parts.norms = {GemmaRule(config), "pre_feedforward_layernorm", "post_feedforward_layernorm"};
  parts.activation = Activation::kGeluTanh;
  return parts;
}

Model AsGemma(Model model) {
  model.embedding_multiplier = std::sqrt(static_cast<double>(model.config.hidden_size));
  model.final_norm->rule.plus_one = true;
  return model;
}

}  // namespace salient
