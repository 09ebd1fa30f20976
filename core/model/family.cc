#include "core/model/family.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/config/json.h"

namespace salient {
namespace {

constexpr LinearRole kQkvLinears[] = {LinearRole::kQuery, LinearRole::kKey, LinearRole::kValue};
constexpr LinearRole kOutputLinears[] = {LinearRole::kOutput};
constexpr LinearRole kGateUpLinears[] = {LinearRole::kGate, LinearRole::kUp};
constexpr LinearRole kDownLinears[] = {LinearRole::kDown};

// down_proj's input is silu(gate) * up: linear in up, so s folds there and not into gate.
const std::array<GroupRow, kGroupRoles> kLlamaGroups = {{
    {GroupRole::kQkv, "self_attn.qkv_proj", kQkvLinears, NormRole::kInput, std::nullopt, false},
    {GroupRole::kOutput, "self_attn.o_proj", kOutputLinears, std::nullopt, LinearRole::kValue,
     true},
    {GroupRole::kGateUp, "mlp.gate_up_proj", kGateUpLinears, NormRole::kPostAttention, std::nullopt,
     false},
    {GroupRole::kDown, "mlp.down_proj", kDownLinears, std::nullopt, LinearRole::kUp, false},
}};

constexpr std::array<absl::string_view, kLinearRoles> kLlamaLinears = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
constexpr std::array<absl::string_view, kNormRoles> kLlamaNorms = {
    "input_layernorm.weight", "post_attention_layernorm.weight"};

Family LikeLlama(absl::string_view architecture, BiasRule biases) {
  return {architecture,
          "model.embed_tokens.weight",
          "model.norm.weight",
          "lm_head.weight",
          "model.layers.",
          kLlamaLinears,
          kLlamaNorms,
          kLlamaGroups,
          biases};
}

constexpr size_t Index(LinearRole role) { return static_cast<size_t>(role); }

}  // namespace

absl::Span<const Family> Families() {
  static const auto* families = new std::array<Family, 3>{{
      // It is Llama 1 to 3, Vicuna and everything else that calls itself one.
      LikeLlama("LlamaForCausalLM", BiasRule::kByConfig),
      LikeLlama("MistralForCausalLM", BiasRule::kNone),
      LikeLlama("Qwen2ForCausalLM", BiasRule::kQueryKeyValue),
  }};
  return *families;
}

absl::StatusOr<const Family*> FindFamily(const ModelConfig& config) {
  std::vector<absl::string_view> known;
  for (const Family& family : Families()) {
    if (family.architecture == config.architecture) return &family;
    known.push_back(family.architecture);
  }
  return absl::UnimplementedError(absl::StrCat(config.source, ": architectures[0] is ",
                                               QuoteForMessage(config.architecture),
                                               "; expected one of ", absl::StrJoin(known, ", ")));
}

std::string BlockPrefix(const Family& family, int64_t layer) {
  return absl::StrCat(family.block_prefix, layer, ".");
}

std::string LinearName(const Family& family, int64_t layer, LinearRole role) {
  return absl::StrCat(family.block_prefix, layer, ".", family.linears[Index(role)]);
}

std::string NormName(const Family& family, int64_t layer, NormRole role) {
  return absl::StrCat(family.block_prefix, layer, ".", family.norms[static_cast<size_t>(role)]);
}

std::string HeadName(const Family& family, const ModelConfig& config) {
  return std::string(config.TiesHead() ? family.embeddings : family.head);
}

LinearShape ShapeOf(const Family& family, const ModelConfig& config, LinearRole role) {
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const int64_t query = config.num_attention_heads * config.head_dim;
  const int64_t key = config.num_key_value_heads * config.head_dim;
  const bool by_config = family.biases == BiasRule::kByConfig;
  const bool attention = by_config && config.attention_bias;
  const bool mlp = by_config && config.mlp_bias;
  const bool qkv = attention || family.biases == BiasRule::kQueryKeyValue;
  switch (role) {
    case LinearRole::kQuery:
      return {query, hidden, qkv};
    case LinearRole::kKey:
    case LinearRole::kValue:
      return {key, hidden, qkv};
    case LinearRole::kOutput:
      return {hidden, query, attention};
    case LinearRole::kGate:
    case LinearRole::kUp:
      return {inner, hidden, mlp};
    case LinearRole::kDown:
      return {hidden, inner, mlp};
  }
  return {};
}

std::vector<TensorSpec> BlockTensors(const Family& family, const ModelConfig& config,
                                     int64_t layer) {
  std::vector<TensorSpec> tensors;
  for (const GroupRow& group : family.groups) {
    if (group.fold_into_norm.has_value()) {
      tensors.push_back({NormName(family, layer, *group.fold_into_norm), {config.hidden_size}});
    }
    for (const LinearRole role : group.linears) {
      const LinearShape shape = ShapeOf(family, config, role);
      const std::string name = LinearName(family, layer, role);
      tensors.push_back({absl::StrCat(name, ".weight"), {shape.out_features, shape.in_features}});
      if (shape.has_bias) tensors.push_back({absl::StrCat(name, ".bias"), {shape.out_features}});
    }
  }
  return tensors;
}

std::vector<TensorSpec> OuterTensors(const Family& family, const ModelConfig& config) {
  std::vector<TensorSpec> tensors = {
      {std::string(family.embeddings), {config.vocab_size, config.hidden_size}},
      {std::string(family.final_norm), {config.hidden_size}}};
  if (!config.TiesHead()) {
    tensors.push_back({std::string(family.head), {config.vocab_size, config.hidden_size}});
  }
  return tensors;
}

}  // namespace salient
