// Holds what the generations of OLMo share.
#ifndef SALIENT_CORE_MODEL_FAMILIES_OLMO_H_
#define SALIENT_CORE_MODEL_FAMILIES_OLMO_H_

#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"

namespace salient {

// Returns the parts of a block. They read the residual stream itself, so that no scale folds before
// them:
//
//   x += n1(o(attention(rope(nq(q(x))), rope(nk(k(x))), v(x))))       n1 = post_attention_layernorm
//   x += n2(down(silu(gate(x)) * up(x)))                              n2 =
//   post_feedforward_layernorm
AttentionParts OlmoAttention(const ModelConfig& config);
MlpParts OlmoMlp(const ModelConfig& config);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_FAMILIES_OLMO_H_
