// The narrower ranges that clipping tries, and the one range of a whole tensor.
#ifndef SALIENT_CORE_METHOD_SHRUNK_RANGE_H_
#define SALIENT_CORE_METHOD_SHRUNK_RANGE_H_

#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/kernels/round_kernels.h"
#include "core/method/ranges.h"
#include "core/parallel/executor.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/weight_view.h"

namespace salient {

inline constexpr int kShrinkFactors = 20;
inline constexpr int kShrinkFactorsAutoAwq = 10;

// 1, 0.975 ... 0.525.
inline float ShrinkFactor(int step) { return 1.0f - 0.025f * static_cast<float>(step); }

// One shrunk range of one group.
struct ShrunkRange {
  Affine affine;
  float clamp = 0;  // AutoAWQ alone has it.
};

// Shrinks the range of weights in [lo, hi], `step` counted from 0. `autoawq`: AutoAWQ's bounds and
// map.
ShrunkRange Shrunk(float lo, float hi, int step, const WeightFormat& format, bool autoawq);

// One range for all groups of a weight, from its smallest to its largest; none unless kWholeTensor.
using WholeRange = std::optional<std::pair<float, float>>;

// CANCELLED from `executor`.
absl::StatusOr<WholeRange> WholeRangeOf(const WeightView& weight, absl::Span<const float> scales,
                                        const WeightFormat& format, Executor& executor);

// Gives every group the factor whose losses [tile][factor], summed over the tiles, are least; the
// widest of equals. `range` has a value.
void ChooseWhole(const std::vector<std::vector<double>>& losses, const WholeRange& range,
                 const WeightFormat& format, bool autoawq, Ranges& ranges);

// sums[f] += losses[i * factors + f] over rows i, factors the size of `sums`.
void AddByFactor(const std::vector<double>& losses, std::vector<double>& sums);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SHRUNK_RANGE_H_
