// Plans what the models of most families share outside their blocks.
#ifndef SALIENT_CORE_MODEL_FAMILIES_DECODER_H_
#define SALIENT_CORE_MODEL_FAMILIES_DECODER_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"
#include "core/model/families/block_builder.h"
#include "core/model/model.h"

namespace salient {

// These are the places of the config's rotary embeddings in Model::ropes.
inline constexpr size_t kGlobalRope = 0;
inline constexpr size_t kLocalRope = 1;

// Returns the rule of an RMS norm with the config's epsilon.
NormRule RmsRule(const ModelConfig& config);

// Plans a model with the names of Llama: embeddings, `add` called for each layer, a final norm of
// RmsRule, a head.
Model PlanDecoder(const ModelConfig& config,
                  absl::FunctionRef<void(int64_t layer, BlockBuilder& block)> add);

// Returns the attention and the perceptron of Llama, without a bias:
//
//   x += o(attention(rope(q(n1(x))), rope(k(n1(x))), v(n1(x))))       n1 = input_layernorm
//   x += down(silu(gate(n2(x))) * up(n2(x)))                          n2 = post_attention_layernorm
AttentionParts LlamaAttention(const ModelConfig& config);
MlpParts LlamaMlp(const ModelConfig& config);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_FAMILIES_DECODER_H_
