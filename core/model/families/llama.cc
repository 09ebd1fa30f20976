// Plans Llama and those that share its block: Mistral and Qwen2 differ in their biases alone.
//
//   x += o(attention(rope(q(n1(x))), rope(k(n1(x))), v(n1(x))))       n1 = input_layernorm
//   x += down(silu(gate(n2(x))) * up(n2(x)))                          n2 = post_attention_layernorm
//
// Touvron et al., "LLaMA", arXiv:2302.13971. Shapes, with H = hidden_size, I = intermediate_size,
// d = head_dim: q [heads d, H]; k, v [kv_heads d, H]; o [H, heads d]; gate, up [I, H]; down [H, I].
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/model/families/family.h"

namespace salient {
namespace {

enum LlamaLinear : size_t { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown };
enum LlamaVector : size_t { kInputNorm, kPostAttentionNorm };
enum LlamaGroup : size_t { kQkvGroup, kOutputGroup, kGateUpGroup, kDownGroup };

struct Biases {
  bool qkv = false;
  bool output = false;
  bool mlp = false;
};

BlockPlan PlanLlamaBlock(const ModelConfig& config, const Biases& biases, int64_t layer) {
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const int64_t head = config.head_dim;
  const int64_t query = config.num_attention_heads * head;
  const int64_t key = config.num_key_value_heads * head;
  BlockPlan block;
  block.layer = layer;
  block.prefix = absl::StrCat("model.layers.", layer, ".");
  const auto vector = [&](const char* path, size_t group) {
    block.vectors.push_back({absl::StrCat(block.prefix, path, ".weight"), hidden, group});
  };
  vector("input_layernorm", kQkvGroup);
  vector("post_attention_layernorm", kGateUpGroup);
  const auto linear = [&](const char* path, LinearShape shape, int64_t unit, DeviceSplit split) {
    block.linears.push_back({path, absl::StrCat(block.prefix, path), shape, unit, split});
  };
  linear("self_attn.q_proj", {query, hidden, biases.qkv}, head, DeviceSplit::kOutputs);
  linear("self_attn.k_proj", {key, hidden, biases.qkv}, head, DeviceSplit::kKeyValueHeads);
  linear("self_attn.v_proj", {key, hidden, biases.qkv}, head, DeviceSplit::kKeyValueHeads);
  linear("self_attn.o_proj", {hidden, query, biases.output}, 1, DeviceSplit::kInputs);
  linear("mlp.gate_proj", {inner, hidden, biases.mlp}, 1, DeviceSplit::kOutputs);
  linear("mlp.up_proj", {inner, hidden, biases.mlp}, 1, DeviceSplit::kOutputs);
  linear("mlp.down_proj", {hidden, inner, biases.mlp}, 1, DeviceSplit::kInputs);
  const auto group = [&](const char* path, std::vector<size_t> linears, Fold fold) {
    block.groups.push_back({path, absl::StrCat(block.prefix, path), std::move(linears), fold});
  };
  const SharedHeads heads = {head, config.QueryHeadsPerKvHead()};
  group("self_attn.qkv_proj", {kQuery, kKey, kValue}, {Fold::Into::kVector, kInputNorm, {}});
  group("self_attn.o_proj", {kOutput}, {Fold::Into::kLinear, kValue, heads});
  group("mlp.gate_up_proj", {kGate, kUp}, {Fold::Into::kVector, kPostAttentionNorm, {}});
  // The input is silu(gate) * up: linear in up, so s folds there and not into gate.
  group("mlp.down_proj", {kDown}, {Fold::Into::kLinear, kUp, {}});
  block.fused = {{"qkv_proj", {kQuery, kKey, kValue}}, {"gate_up_proj", {kGate, kUp}}};
  const AttentionPlan attention = {kQuery,
                                   kKey,
                                   kValue,
                                   kOutput,
                                   kQkvGroup,
                                   kOutputGroup,
                                   config.num_attention_heads,
                                   config.num_key_value_heads,
                                   head,
                                   config.sliding_window};
  const GatedMlpPlan mlp = {kGate, kUp, kDown, kGateUpGroup, kDownGroup};
  block.sublayers = {{{kInputNorm, config.rms_norm_eps}, attention},
                     {{kPostAttentionNorm, config.rms_norm_eps}, mlp}};
  return block;
}

Model PlanLikeLlama(const ModelConfig& config, const Biases& biases) {
  Model model;
  model.config = config;
  model.embeddings = "model.embed_tokens.weight";
  model.final_norm = "model.norm.weight";
  model.head = "lm_head.weight";
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    model.blocks.push_back(PlanLlamaBlock(config, biases, layer));
  }
  return model;
}

}  // namespace

Model PlanLlama(const ModelConfig& config) {
  return PlanLikeLlama(config, {config.attention_bias, config.attention_bias, config.mlp_bias});
}

Model PlanMistral(const ModelConfig& config) { return PlanLikeLlama(config, {}); }

Model PlanQwen2(const ModelConfig& config) { return PlanLikeLlama(config, {.qkv = true}); }

}  // namespace salient
