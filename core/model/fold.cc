#include "core/model/fold.h"

#include <cstring>
#include <utility>
#include <vector>

#include "core/tensor/dtype.h"

namespace salient {
namespace {

void DivideNorm(const NormPlan& norm, absl::Span<const float> scales, BlockWeights& block) {
  std::vector<float>& weight = block.vectors[norm.weight].values;
  for (size_t j = 0; j < weight.size(); ++j) {
    weight[j] = norm.rule.plus_one ? (weight[j] + 1) / scales[j] - 1 : weight[j] / scales[j];
  }
  if (!norm.bias.has_value()) return;
  std::vector<float>& bias = block.vectors[*norm.bias].values;
  for (size_t j = 0; j < bias.size(); ++j) bias[j] /= scales[j];
}

// Divides rows [fold.first_row, fold.first_row + rows).
void DivideRows(const Fold& fold, int64_t rows, absl::Span<const float> scales,
                StoredLinear& linear) {
  const auto divisor = [&](int64_t i) {
    if (!fold.shared_heads.has_value()) return scales[i];
    // Row c d of v feeds channel h d of every query head h that reads kv head c.
    const auto& [head_dim, query_heads] = *fold.shared_heads;
    return scales[i / head_dim * query_heads * head_dim + i % head_dim];
  };
  std::vector<float> values(static_cast<size_t>(linear.in_features));
  const size_t row_bytes = values.size() * sizeof(float);
  std::vector<std::byte> divided(static_cast<size_t>(linear.out_features) * row_bytes);
  for (int64_t row = 0; row < linear.out_features; ++row) {
    linear.View().ReadRows(row, 1, values.data());
    const int64_t i = row - fold.first_row;
    if (i >= 0 && i < rows) {
      const float s = divisor(i);
      for (float& value : values) value /= s;
      if (!linear.bias.values.empty()) linear.bias.values[static_cast<size_t>(row)] /= s;
    }
    std::memcpy(divided.data() + static_cast<size_t>(row) * row_bytes, values.data(), row_bytes);
  }
  linear.dtype = DType::kF32;
  linear.weight = std::move(divided);
}

}  // namespace

void DivideInput(const BlockPlan& plan, const GroupPlan& group, absl::Span<const float> scales,
                 BlockWeights& block) {
  const Fold& fold = group.fold;
  if (fold.IntoNorm()) DivideNorm(plan.norms[fold.index], scales, block);
  if (!fold.IntoLinear()) return;
  const auto channels = static_cast<int64_t>(scales.size());
  const int64_t times =
      fold.shared_heads.has_value() ? fold.shared_heads->query_heads_per_kv_head : 1;
  DivideRows(fold, channels / times, scales, block.linears[fold.index]);
}

StoredLinear MultiplyColumns(const StoredLinear& linear, absl::Span<const float> scales) {
  StoredLinear scaled = linear;
  scaled.dtype = DType::kF32;
  const size_t row_bytes = scales.size() * sizeof(float);
  scaled.weight.resize(static_cast<size_t>(linear.out_features) * row_bytes);
  std::vector<float> row(scales.size());
  for (int64_t i = 0; i < linear.out_features; ++i) {
    linear.View().ReadRows(i, 1, row.data());
    for (size_t j = 0; j < row.size(); ++j) row[j] *= scales[j];
    std::memcpy(scaled.weight.data() + static_cast<size_t>(i) * row_bytes, row.data(), row_bytes);
  }
  return scaled;
}

}  // namespace salient
