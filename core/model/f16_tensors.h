// What stays unquantized, as it is written: F16.
#ifndef SALIENT_CORE_MODEL_F16_TENSORS_H_
#define SALIENT_CORE_MODEL_F16_TENSORS_H_

#include "absl/status/statusor.h"
#include "core/model/block_weights.h"
#include "core/tensor/named_tensor.h"

namespace salient {

// A norm's weight or a bias. INVALID_ARGUMENT naming tensor, position and value for what F16 cannot
// hold.
absl::StatusOr<NamedTensor> ToF16(const StoredVector& vector);

// "<name>.weight", [out_features, in_features]; as above.
absl::StatusOr<NamedTensor> ToF16(const StoredLinear& linear);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_F16_TENSORS_H_
