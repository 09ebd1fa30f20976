// A plain model read as if it had been rounded to nearest.
#ifndef SALIENT_CORE_NEAREST_SOURCE_H_
#define SALIENT_CORE_NEAREST_SOURCE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/checkpoint/model_config.h"
#include "core/checkpoint/tensor_source.h"
#include "core/input_roundings.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

// Shows every Linear of the decoder blocks rounded to nearest in `format` (s = 1, minimum to
// maximum) and decoded again: what round-to-nearest would make of the model. Linears that the
// format cannot hold, with their group, pass through. `source` must outlive the result;
// thread-safe.
//
// Errors: as FindFamily and QuantizableGroups; from ReadRange also INVALID_ARGUMENT for a NaN or
// infinity (names tensor, row, column) and for weights whose scale its dtype cannot hold.
absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestSource(const TensorSource& source,
                                                                   const ModelConfig& config,
                                                                   const WeightFormat& format);

// What an engine does to the inputs of the Linears that RoundToNearestSource rounds, under
// `activations` but with one scale a token in any case: nothing calibrated others. Same errors.
absl::StatusOr<InputRoundings> RoundToNearestInputs(const ModelConfig& config,
                                                    const WeightFormat& format,
                                                    ActivationFormat activations);

}  // namespace salient

#endif  // SALIENT_CORE_NEAREST_SOURCE_H_
