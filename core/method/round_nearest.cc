#include "core/method/round_nearest.h"

#include <algorithm>

#include "core/linalg/round_kernels.h"
#include "core/linalg/tiles.h"
#include "core/tensor/matrix.h"

namespace salient {

AffineGroups EmptyGroups(const WeightView& weight, const Ranges& ranges,
                         const WeightFormat& format) {
  AffineGroups groups;
  groups.out_features = weight.out_features;
  groups.in_features = weight.in_features;
  groups.format = format;
  groups.codes.resize(static_cast<size_t>(weight.out_features * weight.in_features));
  groups.scales.resize(ranges.scales.size());
  groups.zero_points.resize(ranges.zero_points.size());
  for (size_t i = 0; i < ranges.scales.size(); ++i) {
    groups.scales[i] = RoundToDType(format.scale_dtype, ranges.scales[i]);
    groups.zero_points[i] = static_cast<uint8_t>(ranges.zero_points[i]);
  }
  return groups;
}

absl::StatusOr<AffineGroups> RoundNearest(const WeightView& weight, absl::Span<const float> scales,
                                          const Ranges& ranges, const WeightFormat& format,
                                          Executor& executor) {
  const int64_t columns = weight.in_features;
  const int64_t size = format.GroupSize(columns);
  AffineGroups result = EmptyGroups(weight, ranges, format);
  const RowTiles tiles(weight.out_features, kRowTile);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    Matrix rows(tiles.Count(tile), columns);
    ReadScaledRows(weight, scales, tiles.First(tile), rows.rows(), rows.data());
    for (int64_t i = 0; i < rows.rows(); ++i) {
      const int64_t row = tiles.First(tile) + i;
      for (int64_t g = 0; g < ranges.groups; ++g) {
        float* w = rows.Row(i) + g * size;
        if (!ranges.clamps.empty()) {
          const float bound = ranges.clamps[row * ranges.groups + g];
          for (int64_t k = 0; k < size; ++k) w[k] = std::clamp(w[k], -bound, bound);
        }
        NearestCodes(w, size, ranges.At(row, g, format),
                     result.codes.data() + row * columns + g * size);
      }
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return result;
}

}  // namespace salient
