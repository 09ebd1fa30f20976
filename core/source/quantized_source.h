// A quantized checkpoint read as if it were not: its Linears' weights appear decoded.
#ifndef SALIENT_CORE_SOURCE_QUANTIZED_SOURCE_H_
#define SALIENT_CORE_SOURCE_QUANTIZED_SOURCE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/input_roundings.h"
#include "core/model/model.h"

namespace salient {

// Shows <module>.weight, F32 [out_features, in_features], in place of a Linear's packed tensors,
// and everything else as it is. Which format, config.quantization says; without one, or for a
// Linear that was kept, tensors pass through: its tensors tell. `source` and `model` must outlive
// the result. It is thread-safe.
//
// Errors: QuantizationConfig::readable; from Find and ReadRange as PackedLinear, for
// packed tensors that do not fit each other or the config.
absl::StatusOr<std::unique_ptr<TensorSource>> OpenQuantizedSource(const TensorSource& source,
                                                                  const Model& model);

// Reads what an engine does to the inputs of the model's Linears: of those that are packed, what
// config.quantization says. Reads the scales of static activations. Its errors are those of
// OpenQuantizedSource; INVALID_ARGUMENT naming a scale that is no number above 0; errors of the
// source.
absl::StatusOr<InputRoundings> ReadInputRoundings(const TensorSource& source, const Model& model);

}  // namespace salient

#endif  // SALIENT_CORE_SOURCE_QUANTIZED_SOURCE_H_
