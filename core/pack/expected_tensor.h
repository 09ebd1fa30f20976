// A file's tensors held against what their layout makes expected: the check that all layouts share.
#ifndef SALIENT_CORE_PACK_EXPECTED_TENSOR_H_
#define SALIENT_CORE_PACK_EXPECTED_TENSOR_H_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient {

struct ExpectedTensor {
  const NamedTensor* tensor;   // It is without data.
  std::optional<DType> dtype;  // nullopt stands for F16, BF16 or F32.
  std::vector<int64_t> shape;
};

// Returns INVALID_ARGUMENT: "<source>: tensor "<name>": <what>".
template <typename... What>
absl::Status TensorFault(absl::string_view source, const NamedTensor& tensor, const What&... what) {
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": tensor \"", tensor.name, "\": ", what...));
}

// Finds the first of wrong dtype or shape. `what_for` ends the message about a shape: "[64, 64] in
// groups of 32".
absl::Status CheckTensors(absl::string_view source, std::initializer_list<ExpectedTensor> expected,
                          absl::string_view what_for);

// Groups of a row: those of `group_size`, -1 for all of in_features, or, if that is 0,
// scales.shape[axis]. Unless `any_group`, because a g_idx says which input is of which, they all
// have the same size. Returns INVALID_ARGUMENT naming `scales`.
absl::StatusOr<int64_t> GroupsOfRow(absl::string_view source, const NamedTensor& scales,
                                    size_t axis, int64_t in_features, int64_t group_size,
                                    bool any_group);

// Returns the group of each input: as `g_idx` [in_features] says, or, if it has no name, input /
// size. Returns INVALID_ARGUMENT naming it, the input and its group, if there is no such group.
absl::StatusOr<std::vector<int32_t>> GroupOfInputs(absl::string_view source,
                                                   const NamedTensor& g_idx, int64_t in_features,
                                                   int64_t groups);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_EXPECTED_TENSOR_H_
