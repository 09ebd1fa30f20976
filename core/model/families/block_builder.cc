#include "core/model/families/block_builder.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

// Returns the fold into a norm, or none where there is no norm.
Fold IntoNorm(const std::optional<size_t>& norm) {
  if (!norm.has_value()) return {};
  return {Fold::Into::kNorm, *norm};
}

}  // namespace

BlockBuilder::BlockBuilder(const ModelConfig& config, int64_t layer, absl::string_view layers)
    : config_(config) {
  block_.layer = layer;
  block_.prefix = absl::StrCat(layers, layer, ".");
}

size_t BlockBuilder::AddVector(const std::string& path, std::vector<int64_t> shape, size_t group) {
  block_.vectors.push_back({absl::StrCat(block_.prefix, path), std::move(shape), group});
  return block_.vectors.size() - 1;
}

std::optional<size_t> BlockBuilder::AddNorm(const NormRule& rule, const std::string& path,
                                            int64_t size, size_t group) {
  if (path.empty()) return std::nullopt;
  NormPlan norm;
  norm.rule = rule;
  norm.weight = AddVector(absl::StrCat(path, ".weight"), {size}, group);
  if (rule.kind == NormRule::Kind::kLayer) {
    norm.bias = AddVector(absl::StrCat(path, ".bias"), {size}, group);
  }
  block_.norms.push_back(norm);
  return block_.norms.size() - 1;
}

size_t BlockBuilder::AddLinear(const std::string& path, LinearShape shape, int64_t unit,
                               DeviceSplit split) {
  block_.linears.push_back({path, absl::StrCat(block_.prefix, path), shape, unit, split});
  return block_.linears.size() - 1;
}

size_t BlockBuilder::AddRows(size_t linear, int64_t first_row, int64_t rows) {
  block_.projections.push_back({linear, first_row, rows});
  return block_.projections.size() - 1;
}

size_t BlockBuilder::AddWhole(size_t linear) {
  return AddRows(linear, 0, block_.linears[linear].shape.out_features);
}

size_t BlockBuilder::AddGroup(const std::string& path, std::vector<size_t> linears, Fold fold) {
  block_.groups.push_back({path, absl::StrCat(block_.prefix, path), std::move(linears), fold});
  return block_.groups.size() - 1;
}

void BlockBuilder::Finish(const NormPaths& norms, size_t group, Sublayer sublayer) {
  sublayer.post_norm = AddNorm(norms.rule, norms.of_change, config_.hidden_size, group);
  sublayer.after = AddNorm(norms.rule, norms.after, config_.hidden_size, group);
  block_.sublayers.push_back(std::move(sublayer));
}

void BlockBuilder::AddAttention(const AttentionParts& parts) {
  const int64_t hidden = config_.hidden_size;
  const int64_t head = config_.head_dim;
  const int64_t query = config_.num_attention_heads * head;
  const int64_t key = config_.num_key_value_heads * head;
  const size_t group = block_.groups.size();
  const auto norm = AddNorm(parts.norms.rule, parts.norms.before, hidden, group);
  AttentionPlan plan;
  std::vector<size_t> inputs;
  Fold into_value = {Fold::Into::kLinear, 0, SharedHeads{head, config_.QueryHeadsPerKvHead()}};
  const auto add = [&](const std::string& name, int64_t rows, DeviceSplit split) {
    inputs.push_back(AddLinear(parts.path + name, {rows, hidden, parts.input_bias}, head, split));
    return inputs.back();
  };
  if (!parts.fused.empty()) {
    const size_t linear = add(parts.fused, query + 2 * key, DeviceSplit::kOutputs);
    plan.query = AddRows(linear, 0, query);
    plan.key = AddRows(linear, query, key);
    plan.value = AddRows(linear, query + key, key);
    into_value.index = linear;
    into_value.first_row = query + key;
  } else {
    plan.query = AddWhole(add(parts.query, query, DeviceSplit::kOutputs));
    plan.key = AddWhole(add(parts.key, key, DeviceSplit::kKeyValueHeads));
    plan.value = AddWhole(add(parts.value, key, DeviceSplit::kKeyValueHeads));
    into_value.index = inputs.back();
    block_.fused.push_back({"qkv_proj", inputs});
  }
  const bool whole = parts.norms_whole_row;
  plan.query_norm =
      AddNorm(parts.head_rule, parts.query_norm.empty() ? "" : parts.path + parts.query_norm,
              whole ? query : head, group);
  plan.key_norm =
      AddNorm(parts.head_rule, parts.key_norm.empty() ? "" : parts.path + parts.key_norm,
              whole ? key : head, group);
  plan.norms_whole_row = whole;
  plan.output = AddLinear(parts.path + parts.output, {hidden, query, parts.output_bias}, 1,
                          DeviceSplit::kInputs);
  AddWhole(plan.output);
  plan.input_group = AddGroup(parts.path + "qkv_proj", inputs, IntoNorm(norm));
  plan.output_group = AddGroup(parts.path + parts.output, {plan.output}, into_value);
  plan.heads = config_.num_attention_heads;
  plan.kv_heads = config_.num_key_value_heads;
  plan.head_dim = head;
  plan.scale = parts.scale.value_or(1 / std::sqrt(static_cast<double>(head)));
  plan.soft_cap = parts.soft_cap;
  plan.window = config_.WindowOf(block_.layer);
  plan.rope = parts.rope;
  Finish(parts.norms, plan.output_group, {norm, plan, {}, parts.multiplier});
}

void BlockBuilder::AddMlp(const MlpParts& parts) {
  const int64_t hidden = config_.hidden_size;
  const int64_t inner = config_.intermediate_size;
  const size_t group = block_.groups.size();
  const auto norm = AddNorm(parts.norms.rule, parts.norms.before, hidden, group);
  MlpPlan plan;
  std::vector<size_t> inputs;
  const auto add = [&](const std::string& name, int64_t rows) {
    inputs.push_back(
        AddLinear(parts.path + name, {rows, hidden, parts.bias}, 1, DeviceSplit::kOutputs));
    return inputs.back();
  };
  Fold fold = {Fold::Into::kLinear, 0};
  if (!parts.fused.empty()) {
    const size_t linear = add(parts.fused, 2 * inner);
    plan.gate = AddRows(linear, 0, inner);
    plan.up = AddRows(linear, inner, inner);
    fold.first_row = inner;
  } else {
    if (!parts.gate.empty()) plan.gate = AddWhole(add(parts.gate, inner));
    plan.up = AddWhole(add(parts.up, inner));
    if (inputs.size() > 1) block_.fused.push_back({parts.fused_by_engines, inputs});
  }
  // The input of down is act(gate) * up: linear in up, so s folds there and not into gate. Without
  // a gate s passes through the activation only where that is homogeneous.
  fold.index = inputs.back();
  if (!plan.gate.has_value() && parts.activation != Activation::kRelu) fold = {};
  plan.down =
      AddLinear(parts.path + parts.down, {hidden, inner, parts.bias}, 1, DeviceSplit::kInputs);
  AddWhole(plan.down);
  const std::string name = inputs.size() > 1     ? parts.fused_by_engines
                           : parts.fused.empty() ? parts.up
                                                 : parts.fused;
  plan.input_group = AddGroup(parts.path + name, inputs, IntoNorm(norm));
  plan.output_group = AddGroup(parts.path + parts.down, {plan.down}, fold);
  plan.activation = parts.activation;
  Finish(parts.norms, plan.output_group, {norm, plan, {}, parts.multiplier});
}

void BlockBuilder::AddShortConvolution(const ShortConvolutionParts& parts) {
  const int64_t hidden = config_.hidden_size;
  const size_t group = block_.groups.size();
  const auto norm = AddNorm(parts.norms.rule, parts.norms.before, hidden, group);
  const size_t input =
      AddLinear(parts.path + "in_proj", {3 * hidden, hidden, parts.bias}, 1, DeviceSplit::kOutputs);
  ShortConvolutionPlan plan;
  plan.input_gate = AddRows(input, 0, hidden);
  plan.output_gate = AddRows(input, hidden, hidden);
  plan.value = AddRows(input, 2 * hidden, hidden);
  plan.filter = AddVector(parts.path + "conv.weight", {hidden, 1, parts.length}, group + 1);
  if (parts.bias) plan.bias = AddVector(parts.path + "conv.bias", {hidden}, group + 1);
  plan.length = parts.length;
  plan.output =
      AddLinear(parts.path + "out_proj", {hidden, hidden, parts.bias}, 1, DeviceSplit::kInputs);
  AddWhole(plan.output);
  plan.input_group = AddGroup(parts.path + "in_proj", {input}, IntoNorm(norm));
  // The gate of the output is the last to multiply a channel.
  plan.output_group =
      AddGroup(parts.path + "out_proj", {plan.output}, {Fold::Into::kLinear, input, {}, hidden});
  Finish(parts.norms, plan.output_group, {norm, plan});
}

}  // namespace salient
