// A quantized checkpoint read as if it were not: its Linears' weights appear decoded.
#ifndef SALIENT_CORE_QUANTIZED_SOURCE_H_
#define SALIENT_CORE_QUANTIZED_SOURCE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/checkpoint/model_config.h"
#include "core/checkpoint/tensor_source.h"
#include "core/method/ranges.h"

namespace salient {

// Shows <module>.weight, F32 [out_features, in_features], in place of a Linear's packed tensors,
// and everything else as it is. Which format, config.quantization says; without one, or for a
// Linear that was kept, tensors pass through. `source` and `config` must outlive the result.
// Thread-safe.
//
// Errors: as FindFamily; UNIMPLEMENTED for a quant_method, version or width that is not read;
// INVALID_ARGUMENT naming file, tensor and shape from Find, for packed tensors that do not fit each
// other or the config.
absl::StatusOr<std::unique_ptr<TensorSource>> OpenQuantizedSource(const TensorSource& source,
                                                                  const ModelConfig& config);

// Shows every Linear of the decoder blocks rounded to nearest in `format` (s = 1, minimum to
// maximum) and decoded again: what round-to-nearest would make of the model. Linears that the
// format cannot hold, with their group, pass through. Same lifetimes; thread-safe.
//
// Errors: as FindFamily and QuantizableGroups; from ReadRange also INVALID_ARGUMENT for a NaN or
// infinity (names tensor, row, column) and for weights whose scale its dtype cannot hold.
absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestSource(const TensorSource& source,
                                                                   const ModelConfig& config,
                                                                   const WeightFormat& format);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZED_SOURCE_H_
