#include "core/model/fold.h"

#include <cstring>
#include <utility>
#include <vector>

namespace salient {

void DivideInput(const Fold& fold, absl::Span<const float> scales, BlockWeights& block) {
  if (!fold.IntoLinear()) {
    std::vector<float>& vector = block.vectors[fold.index].values;
    for (size_t j = 0; j < vector.size(); ++j) vector[j] /= scales[j];
    return;
  }
  StoredLinear& linear = block.linears[fold.index];
  const auto divisor = [&](int64_t i) {
    if (!fold.shared_heads.has_value()) return scales[i];
    // Row c d of v feeds channel h d of every query head h that reads kv head c.
    const auto& [head_dim, query_heads] = *fold.shared_heads;
    return scales[i / head_dim * query_heads * head_dim + i % head_dim];
  };
  std::vector<float> values(static_cast<size_t>(linear.in_features));
  const size_t row_bytes = values.size() * sizeof(float);
  std::vector<std::byte> divided(static_cast<size_t>(linear.out_features) * row_bytes);
  for (int64_t i = 0; i < linear.out_features; ++i) {
    const float s = divisor(i);
    linear.View().ReadRows(i, 1, values.data());
    for (float& value : values) value /= s;
    std::memcpy(divided.data() + static_cast<size_t>(i) * row_bytes, values.data(), row_bytes);
    if (!linear.bias.values.empty()) linear.bias.values[i] /= s;
  }
  linear.dtype = DType::kF32;
  linear.weight = std::move(divided);
}

}  // namespace salient
