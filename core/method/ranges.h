// The affine map of each group of weights: what a range choice leaves and a rounding takes.
// The plain choice, smallest to largest weight, is here too.
#ifndef SALIENT_CORE_METHOD_RANGES_H_
#define SALIENT_CORE_METHOD_RANGES_H_

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/kernels/round_kernels.h"
#include "core/parallel/executor.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/weight_view.h"

namespace salient {

// O = out_features, G = groups of one row. Row-major [O, G].
struct Ranges {
  int64_t groups = 0;              // It is G.
  std::vector<float> scales;       // They are above 0.
  std::vector<float> zero_points;  // They are integers, 0 to format.MaxCode().
  std::vector<float> clamps;       // AutoAWQ's clipping alone clamps weights to +- this.
  std::vector<uint8_t> narrowed;   // It is 1 where the range was made smaller than min to max.

  Ranges(int64_t out_features, int64_t groups_per_row);
  Affine At(int64_t row, int64_t group, const WeightFormat& format) const {
    return {scales[row * groups + group], zero_points[row * groups + group],
            static_cast<float>(format.MaxCode())};
  }
  void Set(int64_t row, int64_t group, const Affine& affine) {
    scales[row * groups + group] = affine.scale;
    zero_points[row * groups + group] = affine.zero_point;
  }
  // Writes the same for all.
  void Fill(const Affine& affine) {
    std::fill(scales.begin(), scales.end(), affine.scale);
    std::fill(zero_points.begin(), zero_points.end(), affine.zero_point);
  }
};

// `value` rounded to what `dtype` (F16, BF16 or F32) can hold.
float RoundToDType(DType dtype, float value);

// Returns the map of weights in [lo, hi] with both ends multiplied by `shrink`. The range is first
// extended to include 0. Asymmetric: scale = (hi - lo) / (2^b - 1), rounded to its stored dtype
// before zero_point = round(-lo / scale) is taken. Symmetric: scale = max(-lo, hi) /
// ((2^b - 1) / 2), zero_point = 2^(b-1). Where rounding a small scale to F16 would cut off a whole
// code or more, it is the next larger F16, so that it is 0 for no range but an empty one; that one
// has scale 1, so that every weight gets the code of 0.
Affine FitAffine(float lo, float hi, float shrink, const WeightFormat& format);

// AutoAWQ 0.2.9's map: the range need not include 0, counts as at least 1e-5 wide, and the scale
// stays f32. Symmetric: scale = max(-lo, hi, 1e-5) / (2^(b-1) - 1).
Affine FitAffineAutoAwq(float lo, float hi, const WeightFormat& format);

// Rows [row, row + count) of the weight with column j multiplied by scales[j], into
// out [count, in_features].
void ReadScaledRows(const WeightView& weight, absl::Span<const float> scales, int64_t row,
                    int64_t count, float* out);

// The smallest and the largest of all scaled weights. CANCELLED from `executor`.
absl::StatusOr<std::pair<float, float>> TensorMinMax(const WeightView& weight,
                                                     absl::Span<const float> scales,
                                                     Executor& executor);

// Every group's range from its smallest to its largest scaled weight; kWholeTensor: of the whole
// weight, all rows alike. `autoawq` chooses FitAffineAutoAwq. INVALID_ARGUMENT naming row and group
// if a scale exceeds its stored dtype.
absl::StatusOr<Ranges> RangeMinMax(const WeightView& weight, absl::Span<const float> scales,
                                   const WeightFormat& format, bool autoawq, Executor& executor);

// INVALID_ARGUMENT naming row and group unless `scale` is finite in its stored dtype.
absl::Status CheckScale(float scale, int64_t row, int64_t group, const WeightFormat& format);

// INVALID_ARGUMENT naming row and group unless every scale is finite in its stored dtype.
absl::Status CheckScales(const Ranges& ranges, const WeightFormat& format);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_RANGES_H_
