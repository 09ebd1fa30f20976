// Reads a plain model as if it had been rounded to nearest.
#ifndef SALIENT_CORE_SOURCE_NEAREST_SOURCE_H_
#define SALIENT_CORE_SOURCE_NEAREST_SOURCE_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/tensor_source.h"
#include "core/model/input_roundings.h"
#include "core/model/model.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

// Say by layer, then as BlockPlan::linears, what a Linear is rounded in; nullopt: it stays as it
// is.
using NearestFormats = std::vector<std::vector<std::optional<WeightFormat>>>;

// Returns every Linear of the decoder blocks in `format`, but for those that it cannot hold, with
// their group. Its errors are those of QuantizableGroups.
absl::StatusOr<NearestFormats> NearestFormatsOf(const Model& model, const WeightFormat& format);

// Shows each Linear rounded to nearest in its format (s = 1, minimum to maximum) and decoded again:
// what round-to-nearest would make of the model. `source` must outlive the result; thread-safe.
//
// Errors: INVALID_ARGUMENT for formats of another number of layers, and for one that
// its Linear does not fit (names it, the field and the value); from ReadRange also INVALID_ARGUMENT
// for a NaN or infinity (names tensor, row, column) and for weights whose scale its dtype cannot
// hold.
absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestByLinear(const TensorSource& source,
                                                                     const Model& model,
                                                                     const NearestFormats& formats);

// Rounds all in one format, as NearestFormatsOf says. Its errors are those of both.
absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestSource(const TensorSource& source,
                                                                   const Model& model,
                                                                   const WeightFormat& format);

// Returns what an engine does to the inputs of the Linears that are rounded, under `activations`
// but with one scale a token in any case: nothing calibrated others.
InputRoundings RoundToNearestInputs(const NearestFormats& formats, ActivationFormat activations);

}  // namespace salient

#endif  // SALIENT_CORE_SOURCE_NEAREST_SOURCE_H_
