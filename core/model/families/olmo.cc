#include "core/model/families/olmo.h"

#include "core/model/families/decoder.h"

namespace salient {

AttentionParts OlmoAttention(const ModelConfig& config) {
  AttentionParts parts;
  parts.norms = {RmsRule(config), "", "post_attention_layernorm"};
  parts.input_bias = parts.output_bias = config.attention_bias;
  parts.query_norm = "q_norm";
  parts.key_norm = "k_norm";
  parts.head_rule = RmsRule(config);
  parts.norms_whole_row = true;
  return parts;
}

MlpParts OlmoMlp(const ModelConfig& config) {
  MlpParts parts;
  parts.norms = {RmsRule(config), "", "post_feedforward_layernorm"};
  return parts;
}

}  // namespace salient
