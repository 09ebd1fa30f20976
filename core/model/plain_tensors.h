// Writes what stays unquantized in F16 or BF16.
#ifndef SALIENT_CORE_MODEL_PLAIN_TENSORS_H_
#define SALIENT_CORE_MODEL_PLAIN_TENSORS_H_

#include "absl/status/statusor.h"
#include "core/model/block_weights.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient {

// Returns a norm's weight or a bias in `dtype`, F16 or BF16: the bytes that it came in, if it came
// in that dtype and nothing was folded into it. Returns INVALID_ARGUMENT naming tensor, position
// and value for what the dtype cannot hold.
absl::StatusOr<NamedTensor> PlainTensor(const StoredVector& vector, DType dtype);

// Returns "<name>.weight", [out_features, in_features], in the same way.
absl::StatusOr<NamedTensor> PlainTensor(const StoredLinear& linear, DType dtype);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_PLAIN_TENSORS_H_
