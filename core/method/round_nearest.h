// Rounding: every weight to its nearest code.
#ifndef SALIENT_CORE_METHOD_ROUND_NEAREST_H_
#define SALIENT_CORE_METHOD_ROUND_NEAREST_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/ranges.h"
#include "core/parallel/executor.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/weight_view.h"

namespace salient {

// One Linear's weight and its affine maps. Borrows.
struct RoundInput {
  WeightView weight;
  const Ranges* ranges = nullptr;
};

// code = clamp(round(w s / scale) + zero_point, 0, 2^bits - 1), ties to even. Where `ranges` has
// clamps, w s is clamped first. Scales of the result are rounded to format.scale_dtype.
// Of all `inputs`, which share s.
absl::StatusOr<std::vector<AffineGroups>> RoundNearest(absl::Span<const RoundInput> inputs,
                                                       absl::Span<const float> scales,
                                                       const WeightFormat& format,
                                                       Executor& executor);

// Rounds one.
absl::StatusOr<AffineGroups> RoundNearest(const WeightView& weight, absl::Span<const float> scales,
                                          const Ranges& ranges, const WeightFormat& format,
                                          Executor& executor);

// The result's frame with the ranges' scales and zero points and all codes 0.
AffineGroups EmptyGroups(const WeightView& weight, const Ranges& ranges,
                         const WeightFormat& format);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_ROUND_NEAREST_H_
