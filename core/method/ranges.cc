#include "core/method/ranges.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/kernels/search_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/parallel/tiles.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/non_finite.h"

namespace salient {

Ranges::Ranges(int64_t out_features, int64_t groups_per_row)
    : groups(groups_per_row),
      scales(static_cast<size_t>(out_features * groups_per_row), 1.0f),
      zero_points(scales.size(), 0.0f),
      narrowed(scales.size(), 0) {}

float RoundToDType(DType dtype, float value) {
  if (dtype == DType::kF16) return RoundToF16(value);
  if (dtype == DType::kBF16) return BF16ToF32(F32ToBF16(value));
  return value;
}

Affine FitAffine(float lo, float hi, float shrink, const WeightFormat& format) {
  const float max_code = static_cast<float>(format.MaxCode());
  const float middle = static_cast<float>(1 << (format.bits - 1));
  // 0 is always in range: padding and pruned weights must come back as they were.
  lo = std::min(lo, 0.0f) * shrink;
  hi = std::max(hi, 0.0f) * shrink;
  const float width = format.symmetric ? 2 * std::max(-lo, hi) : hi - lo;
  float scale = RoundToDType(format.scale_dtype, width / max_code);
  // An F16 below 2^-14 may be so much smaller that a whole code is cut off, or be 0.
  if (format.scale_dtype == DType::kF16 && (max_code + 1) * scale < width) scale += kLeastF16;
  // A group of zeros has no width; with a scale of 1 its codes are all the zero point.
  if (!(scale > 0)) return {1.0f, format.symmetric ? middle : 0.0f, max_code};
  const float zero_point =
      format.symmetric ? middle : std::clamp(std::nearbyint(-lo / scale), 0.0f, max_code);
  return {scale, zero_point, max_code};
}

Affine FitAffineAutoAwq(float lo, float hi, const WeightFormat& format) {
  const float max_code = static_cast<float>(format.MaxCode());
  const float middle = static_cast<float>(1 << (format.bits - 1));
  // AutoAWQ divides by the largest code of one sign, and takes a range to be 1e-5 wide at least.
  if (format.symmetric) {
    return {std::max({-lo, hi, 1e-5f}) / (middle - 1), middle, max_code};
  }
  const float scale = std::max(hi - lo, 1e-5f) / max_code;
  return {scale, std::clamp(-std::nearbyint(lo / scale), 0.0f, max_code), max_code};
}

void ReadScaledRows(const WeightView& weight, absl::Span<const float> scales, int64_t row,
                    int64_t count, float* out) {
  weight.ReadRows(row, count, out);
  for (int64_t i = 0; i < count; ++i) {
    float* values = out + i * weight.in_features;
    Multiply(values, scales.data(), weight.in_features, values);
  }
}

absl::StatusOr<std::pair<float, float>> TensorMinMax(const WeightView& weight,
                                                     absl::Span<const float> scales,
                                                     Executor& executor) {
  const RowTiles tiles(weight.out_features, kRowTile);
  std::vector<std::pair<float, float>> partial(static_cast<size_t>(tiles.size()));
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    Matrix rows(tiles.Count(tile), weight.in_features);
    // Only a tile of rows is ever held in f32, scaled as it is read.
    ReadScaledRows(weight, scales, tiles.First(tile), rows.rows(), rows.data());
    partial[tile] = MinMax(rows.data(), rows.rows() * rows.cols());
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  // Tiles are joined after all have ended; minima do not depend on their order.
  std::pair<float, float> total = partial.front();
  for (const auto& [lo, hi] : partial) {
    total = {std::min(total.first, lo), std::max(total.second, hi)};
  }
  return total;
}

absl::StatusOr<Ranges> RangeMinMax(const WeightView& weight, absl::Span<const float> scales,
                                   const WeightFormat& format, bool autoawq, Executor& executor) {
  const int64_t group_size = format.GroupSize(weight.in_features);
  Ranges ranges(weight.out_features, weight.in_features / group_size);
  if (format.group_size == kWholeTensor) {
    const auto extent = TensorMinMax(weight, scales, executor);
    if (!extent.ok()) return extent.status();
    const auto [lo, hi] = *extent;
    ranges.Fill(autoawq ? FitAffineAutoAwq(lo, hi, format) : FitAffine(lo, hi, 1.0f, format));
    if (absl::Status status = CheckScales(ranges, format); !status.ok()) return status;
    return ranges;
  }
  const RowTiles tiles(weight.out_features, kRowTile);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    Matrix rows(tiles.Count(tile), weight.in_features);
    ReadScaledRows(weight, scales, tiles.First(tile), rows.rows(), rows.data());
    for (int64_t i = 0; i < rows.rows(); ++i) {
      for (int64_t g = 0; g < ranges.groups; ++g) {
        const auto [lo, hi] = MinMax(rows.Row(i) + g * group_size, group_size);
        ranges.Set(tiles.First(tile) + i, g,
                   autoawq ? FitAffineAutoAwq(lo, hi, format) : FitAffine(lo, hi, 1.0f, format));
      }
    }
    return absl::OkStatus();
  });
  if (status.ok()) status = CheckScales(ranges, format);
  if (!status.ok()) return status;
  return ranges;
}

absl::Status CheckScale(float scale, int64_t row, int64_t group, const WeightFormat& format) {
  if (std::isfinite(RoundToDType(format.scale_dtype, scale))) return absl::OkStatus();
  return NonFiniteError(absl::StrCat("row ", row, ", group ", group,
                                     ": the range of the weights needs a scale of ", scale,
                                     ", more than ", Name(format.scale_dtype), " can hold"));
}

absl::Status CheckScales(const Ranges& ranges, const WeightFormat& format) {
  for (size_t i = 0; i < ranges.scales.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i);
    absl::Status status =
        CheckScale(ranges.scales[i], at / ranges.groups, at % ranges.groups, format);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace salient
