#include "core/method/salient_fp16.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "core/kernels/round_kernels.h"
#include "core/method/ranges.h"
#include "core/parallel/tiles.h"
#include "core/statistics/sketch_signs.h"
#include "core/statistics/sum_values.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"

namespace salient {
namespace {

// The sum of squares of each column.
std::vector<double> ColumnSquares(const WeightView& weight) {
  const int64_t columns = weight.in_features;
  std::vector<double> squares(static_cast<size_t>(columns), 0.0);
  const RowTiles tiles(weight.out_features, kRowTile);
  Matrix rows(std::min(kRowTile, weight.out_features), columns);
  for (int64_t tile = 0; tile < tiles.size(); ++tile) {
    weight.ReadRows(tiles.First(tile), tiles.Count(tile), rows.data());
    for (int64_t i = 0; i < tiles.Count(tile); ++i) {
      const float* row = rows.Row(i);
      for (int64_t j = 0; j < columns; ++j) squares[j] += static_cast<double>(row[j]) * row[j];
    }
  }
  return squares;
}

// The `count` channels that come first by `before`, ascending.
template <class Before>
std::vector<int64_t> First(int64_t count, int64_t in_features, Before before) {
  std::vector<int64_t> channels(static_cast<size_t>(in_features));
  std::iota(channels.begin(), channels.end(), int64_t{0});
  // The sort is stable, so that among equals the first channels are taken.
  std::stable_sort(channels.begin(), channels.end(), before);
  channels.resize(static_cast<size_t>(count));
  std::sort(channels.begin(), channels.end());
  return channels;
}

std::vector<int64_t> Largest(int64_t count, const std::vector<double>& values) {
  return First(count, static_cast<int64_t>(values.size()),
               [&](int64_t a, int64_t b) { return values[a] > values[b]; });
}

absl::Status CheckFormat(const WeightFormat& format, int64_t in_features) {
  const int64_t size = format.GroupSize(in_features);
  if (format.group_size != kWholeTensor && size > 0 && in_features % size == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("group_size is ", format.group_size,
                                                 "; expected a divisor of in_features ",
                                                 in_features, ", or -1 for all"));
}

}  // namespace

int64_t SalientCount(double share, int64_t in_features) {
  if (!(share > 0)) return 0;
  const auto count = static_cast<int64_t>(std::nearbyint(share * static_cast<double>(in_features)));
  return std::clamp<int64_t>(count, 1, in_features);
}

absl::StatusOr<std::vector<int64_t>> SalientChannels(const WeightView& weight,
                                                     const Statistics& statistics,
                                                     const SalientFp16Params& params) {
  if (!(params.share >= 0 && params.share <= 1)) {  // It is true for NaN.
    return absl::InvalidArgumentError(
        absl::StrCat("share of salient channels is ", params.share, "; expected 0 to 1"));
  }
  if (statistics.params.in_features != weight.in_features) {
    return absl::InvalidArgumentError(absl::StrCat("statistics of ", statistics.params.in_features,
                                                   " in_features; expected the weight's ",
                                                   weight.in_features));
  }
  const int64_t count = SalientCount(params.share, weight.in_features);
  switch (params.choice) {
    case SalientChoice::kNone:
      break;
    case SalientChoice::kActivation:
      return Largest(count, SumValues(statistics).SumsAbs());
    case SalientChoice::kWeight:
      return Largest(count, ColumnSquares(weight));
    case SalientChoice::kRandom: {
      std::vector<uint64_t> hashes(static_cast<size_t>(weight.in_features));
      for (int64_t j = 0; j < weight.in_features; ++j) {
        hashes[j] = SampleHash(params.seed, params.linear, j);
      }
      // Random channels are the smallest hashes: the same on any machine, and each seed its own.
      return First(count, weight.in_features,
                   [&](int64_t a, int64_t b) { return hashes[a] < hashes[b]; });
    }
  }
  return std::vector<int64_t>();
}

absl::StatusOr<Matrix> RoundSalientFp16(const WeightView& weight, absl::Span<const int64_t> kept,
                                        const WeightFormat& format) {
  const int64_t columns = weight.in_features;
  if (absl::Status status = CheckFormat(format, columns); !status.ok()) return status;
  const int64_t size = format.GroupSize(columns);
  Matrix rows = Matrix::Unset(weight.out_features, columns);
  weight.ReadRows(0, weight.out_features, rows.data());
  std::vector<float> exact(kept.size());
  std::vector<uint8_t> codes(static_cast<size_t>(size));
  for (int64_t i = 0; i < rows.rows(); ++i) {
    float* row = rows.Row(i);
    // A range includes 0 in any case, so a weight of 0 is as good as none.
    for (size_t k = 0; k < kept.size(); ++k) {
      exact[k] = RoundToF16(row[kept[k]]);
      if (!std::isfinite(exact[k])) {
        return NonFiniteError(
            absl::StrCat("element [", i, ", ", kept[k], "] is ", row[kept[k]],
                         "; expected a value that F16 can hold, at most 65504 in magnitude"));
      }
      row[kept[k]] = 0;
    }
    // The range is fitted to what is left of the group, so that a large kept weight no longer
    // coarsens the others.
    for (int64_t g = 0; g < columns / size; ++g) {
      float* group = row + g * size;
      const auto [lo, hi] = MinMax(group, size);
      const Affine affine = FitAffine(lo, hi, 1.0f, format);
      absl::Status status = CheckScale(affine.scale, i, g, format);
      if (!status.ok()) return status;
      NearestCodes(group, size, affine, codes.data());
      for (int64_t k = 0; k < size; ++k) {
        group[k] = affine.scale * (static_cast<float>(codes[k]) - affine.zero_point);
      }
    }
    for (size_t k = 0; k < kept.size(); ++k) row[kept[k]] = exact[k];
  }
  return rows;
}

}  // namespace salient
