#include "core/model/fold.h"

#include <cstring>
#include <utility>
#include <vector>

namespace salient {

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
