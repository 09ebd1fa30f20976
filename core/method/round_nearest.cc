#include "core/method/round_nearest.h"

#include <algorithm>
#include <utility>

#include "core/kernels/round_kernels.h"
#include "core/parallel/tiles.h"
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
    // The scale is what a file will hold; codes are computed from that, not from the fitted one.
    groups.scales[i] = RoundToDType(format.scale_dtype, ranges.scales[i]);
    groups.zero_points[i] = static_cast<uint8_t>(ranges.zero_points[i]);
  }
  return groups;
}

absl::StatusOr<std::vector<AffineGroups>> RoundNearest(absl::Span<const RoundInput> inputs,
                                                       absl::Span<const float> scales,
                                                       const WeightFormat& format,
                                                       Executor& executor) {
  const int64_t columns = static_cast<int64_t>(scales.size());
  const int64_t size = format.GroupSize(columns);
  std::vector<AffineGroups> results;
  std::vector<int64_t> rows_of;
  for (const RoundInput& input : inputs) {
    results.push_back(EmptyGroups(input.weight, *input.ranges, format));
    rows_of.push_back(input.weight.out_features);
  }
  // The rows of all weights are tiles of one loop, so that a small weight does not leave workers
  // idle.
  const StackedTiles tiles(rows_of, kRowTile);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    const auto [index, first, count] = tiles.At(tile);
    const Ranges& ranges = *inputs[index].ranges;
    Matrix rows(count, columns);
    ReadScaledRows(inputs[index].weight, scales, first, count, rows.data());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = first + i;
      for (int64_t g = 0; g < ranges.groups; ++g) {
        float* w = rows.Row(i) + g * size;
        // AutoAWQ clamps the weights themselves before it rounds them.
        if (!ranges.clamps.empty()) {
          const float bound = ranges.clamps[row * ranges.groups + g];
          for (int64_t k = 0; k < size; ++k) w[k] = std::clamp(w[k], -bound, bound);
        }
        NearestCodes(w, size, ranges.At(row, g, format),
                     results[index].codes.data() + row * columns + g * size);
      }
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return results;
}

absl::StatusOr<AffineGroups> RoundNearest(const WeightView& weight, absl::Span<const float> scales,
                                          const Ranges& ranges, const WeightFormat& format,
                                          Executor& executor) {
  const RoundInput input{weight, &ranges};
  absl::StatusOr<std::vector<AffineGroups>> groups =
      RoundNearest({&input, 1}, scales, format, executor);
  if (!groups.ok()) return groups.status();
  return std::move(groups->front());
}

}  // namespace salient
