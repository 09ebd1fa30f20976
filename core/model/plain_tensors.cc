#include "core/model/plain_tensors.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/narrow.h"

namespace salient {

absl::StatusOr<NamedTensor> PlainTensor(const StoredVector& vector, DType dtype) {
  const auto count = static_cast<int64_t>(vector.values.size());
  NamedTensor tensor{vector.name, dtype, vector.shape, {}};
  if (tensor.shape.empty()) tensor.shape = {count};
  tensor.data.resize(static_cast<size_t>(2 * count));
  absl::Status status =
      Narrow(dtype, tensor.name, vector.values.data(), 1, count, 0, tensor.data.data());
  if (!status.ok()) return status;
  return tensor;
}

absl::StatusOr<NamedTensor> PlainTensor(const StoredLinear& linear, DType dtype) {
  const int64_t columns = linear.in_features;
  NamedTensor tensor{
      absl::StrCat(linear.name, ".weight"), dtype, {linear.out_features, columns}, {}};
  tensor.data.resize(static_cast<size_t>(2 * linear.out_features * columns));
  std::vector<float> row(static_cast<size_t>(columns));
  for (int64_t i = 0; i < linear.out_features; ++i) {
    linear.View().ReadRows(i, 1, row.data());
    absl::Status status =
        Narrow(dtype, tensor.name, row.data(), 1, columns, i, tensor.data.data() + 2 * i * columns);
    if (!status.ok()) return status;
  }
  return tensor;
}

}  // namespace salient
