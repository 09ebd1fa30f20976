#include "core/model/fold.h"

#include <cstring>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"

namespace salient {
namespace {

// Lets `change` alter each row of the weight as f32 [in_features].
void ChangeRows(StoredLinear& linear, absl::FunctionRef<void(int64_t row, float* values)> change) {
  std::vector<std::byte> changed(static_cast<size_t>(linear.out_features * linear.in_features) *
                                 sizeof(float));
  std::vector<float> values(static_cast<size_t>(linear.in_features));
  for (int64_t i = 0; i < linear.out_features; ++i) {
    linear.View().ReadRows(i, 1, values.data());
    change(i, values.data());
    std::memcpy(changed.data() + static_cast<size_t>(i) * values.size() * sizeof(float),
                values.data(), values.size() * sizeof(float));
  }
  linear.dtype = DType::kF32;
  linear.weight = std::move(changed);
}

}  // namespace

void DivideInput(const GroupRow& row, const ModelConfig& config, absl::Span<const float> scales,
                 BlockWeights& block) {
  if (row.fold_into_norm.has_value()) {
    std::vector<float>& norm = block.norm(*row.fold_into_norm).values;
    for (size_t j = 0; j < norm.size(); ++j) norm[j] /= scales[j];
    return;
  }
  StoredLinear& linear = block.linear(*row.fold_into_linear);
  const auto divisor = [&](int64_t i) {
    if (!row.tied_heads) return scales[i];
    // Row c d of v feeds channel h d of every query head h that reads kv head c.
    const int64_t head = i / config.head_dim * config.QueryHeadsPerKvHead();
    return scales[head * config.head_dim + i % config.head_dim];
  };
  ChangeRows(linear, [&](int64_t i, float* values) {
    const float s = divisor(i);
    for (int64_t j = 0; j < linear.in_features; ++j) values[j] /= s;
    if (!linear.bias.values.empty()) linear.bias.values[i] /= s;
  });
}

void MultiplyColumns(const GroupRow& row, absl::Span<const float> scales, BlockWeights& block) {
  for (const LinearRole role : row.linears) {
    StoredLinear& linear = block.linear(role);
    ChangeRows(linear, [&](int64_t /*row*/, float* values) {
      for (int64_t j = 0; j < linear.in_features; ++j) values[j] *= scales[j];
    });
  }
}

}  // namespace salient
