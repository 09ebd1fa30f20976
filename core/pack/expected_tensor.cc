#include "core/pack/expected_tensor.h"

#include <cstring>
#include <string>

#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "core/tensor/dtype.h"

namespace salient {
namespace {

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

}  // namespace

absl::Status CheckTensors(absl::string_view source, std::initializer_list<ExpectedTensor> expected,
                          absl::string_view what_for) {
  for (const auto& [tensor, dtype, shape] : expected) {
    if (dtype.has_value() ? tensor->dtype != *dtype : !IsFloat(tensor->dtype)) {
      return TensorFault(source, *tensor, "dtype is ", Name(tensor->dtype), "; expected ",
                         dtype.has_value() ? Name(*dtype) : "F16, BF16 or F32");
    }
    if (tensor->shape == shape) continue;
    return TensorFault(source, *tensor, "shape is ", ShapeText(tensor->shape), "; expected ",
                       ShapeText(shape), " for ", what_for);
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> GroupsOfRow(absl::string_view source, const NamedTensor& scales,
                                    size_t axis, int64_t in_features, int64_t group_size,
                                    bool any_group) {
  if (group_size == 0) {
    const int64_t groups = scales.shape.size() == 2 ? scales.shape[axis] : 0;
    if (groups >= 1 && groups <= in_features && (any_group || in_features % groups == 0)) {
      return groups;
    }
    return TensorFault(source, scales, "shape is ", ShapeText(scales.shape),
                       "; expected in dimension ", axis,
                       " the groups of a row, a divisor of in_features, which is ", in_features);
  }
  const int64_t size = group_size == -1 ? in_features : group_size;
  if (size >= 1 && (any_group || in_features % size == 0)) {
    return (in_features + size - 1) / size;
  }
  return TensorFault(source, scales, "group_size is ", group_size,
                     "; expected -1 or a divisor of in_features, which is ", in_features);
}

absl::StatusOr<std::vector<int32_t>> GroupOfInputs(absl::string_view source,
                                                   const NamedTensor& g_idx, int64_t in_features,
                                                   int64_t groups) {
  std::vector<int32_t> group(static_cast<size_t>(in_features));
  if (g_idx.name.empty()) {
    const int64_t size = in_features / groups;
    for (int64_t k = 0; k < in_features; ++k) group[k] = static_cast<int32_t>(k / size);
    return group;
  }
  std::memcpy(group.data(), g_idx.data.data(), group.size() * sizeof(int32_t));
  for (int64_t k = 0; k < in_features; ++k) {
    if (group[k] >= 0 && group[k] < groups) continue;
    return TensorFault(source, g_idx, "element ", k, " is ", group[k], "; expected 0 to ",
                       groups - 1, ", a group that there is");
  }
  return group;
}

}  // namespace salient
