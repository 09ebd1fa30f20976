#include "core/model/f16_tensors.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/narrow_f16.h"

namespace salient {

absl::StatusOr<NamedTensor> ToF16(const StoredVector& vector) {
  const auto count = static_cast<int64_t>(vector.values.size());
  NamedTensor tensor{vector.name, DType::kF16, {count}, {}};
  tensor.data.resize(static_cast<size_t>(2 * count));
  absl::Status status =
      NarrowToF16(tensor.name, vector.values.data(), 1, count, 0, tensor.data.data());
  if (!status.ok()) return status;
  return tensor;
}

absl::StatusOr<NamedTensor> ToF16(const StoredLinear& linear) {
  const int64_t columns = linear.in_features;
  NamedTensor tensor{
      absl::StrCat(linear.name, ".weight"), DType::kF16, {linear.out_features, columns}, {}};
  tensor.data.resize(static_cast<size_t>(2 * linear.out_features * columns));
  std::vector<float> row(static_cast<size_t>(columns));
  for (int64_t i = 0; i < linear.out_features; ++i) {
    linear.View().ReadRows(i, 1, row.data());
    absl::Status status =
        NarrowToF16(tensor.name, row.data(), 1, columns, i, tensor.data.data() + 2 * i * columns);
    if (!status.ok()) return status;
  }
  return tensor;
}

}  // namespace salient
