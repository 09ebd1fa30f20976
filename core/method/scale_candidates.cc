#include "core/method/scale_candidates.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/search_sum_kernels.h"
#include "core/parallel/tiles.h"
#include "core/statistics/sum_values.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

constexpr double kFloor = 0x1p-7;  // It is a share of the mean |x|.

// Replaces each channel by the mean over the channels it is tied to.
void PoolTiedHeads(const TiedHeads& tied, std::vector<double>& channels) {
  const int64_t heads = static_cast<int64_t>(channels.size()) / tied.head_dim;
  const int64_t shared = tied.query_heads_per_kv_head;
  for (int64_t first = 0; first < heads; first += shared) {
    for (int64_t d = 0; d < tied.head_dim; ++d) {
      double sum = 0;
      for (int64_t h = first; h < first + shared; ++h) sum += channels[h * tied.head_dim + d];
      for (int64_t h = first; h < first + shared; ++h) {
        channels[h * tied.head_dim + d] = sum / static_cast<double>(shared);
      }
    }
  }
}

// Adds |w| of each column of `rows` to sums. Returns the largest.
float AddMagnitudes(const Matrix& rows, double* sums) {
  float largest = 0;
  for (int64_t i = 0; i < rows.rows(); ++i) {
    const float* row = rows.Row(i);
    for (int64_t j = 0; j < rows.cols(); ++j) {
      const float size = std::abs(row[j]);
      sums[j] += size;
      largest = std::max(largest, size);
    }
  }
  return largest;
}

// w_j of one weight, summed over its rows.
absl::StatusOr<std::vector<double>> SumRelativeMagnitudes(const WeightView& weight,
                                                          const WeightFormat& format,
                                                          double epsilon, Executor& executor) {
  const int64_t columns = weight.in_features;
  const int64_t group_size = format.GroupSize(columns);
  const bool whole = format.group_size == kWholeTensor;
  const RowTiles tiles(weight.out_features, kRowTile);
  std::vector<std::vector<double>> partial(static_cast<size_t>(tiles.size()));
  // A tile has one each if the tensor is one group.
  std::vector<float> largest(partial.size(), 0.0f);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    Matrix rows(tiles.Count(tile), columns);
    weight.ReadRows(tiles.First(tile), rows.rows(), rows.data());
    partial[tile].assign(static_cast<size_t>(columns), 0.0);
    if (whole) {
      largest[tile] = AddMagnitudes(rows, partial[tile].data());
      return absl::OkStatus();
    }
    for (int64_t i = 0; i < rows.rows(); ++i) {
      AddRelativeMagnitudes(rows.Row(i), columns / group_size, group_size, epsilon,
                            partial[tile].data());
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  std::vector<double> total(static_cast<size_t>(columns), 0.0);
  for (const std::vector<double>& sums : partial) {
    for (int64_t j = 0; j < columns; ++j) total[j] += sums[j];
  }
  if (!whole) return total;
  // The largest of the whole tensor is known only now, so its shares are taken of the sums.
  const double range = *std::max_element(largest.begin(), largest.end()) + epsilon;
  for (double& value : total) value = range > 0 ? value / range : 0;
  return total;
}

}  // namespace

void FloorAtShareOfMean(std::vector<double>& channels) {
  double mean = 0;
  for (double value : channels) mean += value;
  mean /= static_cast<double>(channels.size());
  for (double& value : channels) value = std::max(value, kFloor * mean);
}

absl::StatusOr<ChannelMagnitudes> MeasureChannels(absl::Span<const WeightView> weights,
                                                  const Statistics& statistics,
                                                  const WeightFormat& format, bool autoawq,
                                                  const TiedHeads* tied, Executor& executor) {
  ChannelMagnitudes channels;
  channels.x = SumValues(statistics).SumsAbs();
  for (double& value : channels.x) value /= static_cast<double>(statistics.token_count);
  channels.w.assign(channels.x.size(), 0.0);
  int64_t total_rows = 0;
  for (const WeightView& weight : weights) {
    absl::StatusOr<std::vector<double>> sums =
        SumRelativeMagnitudes(weight, format, autoawq ? 1e-6 : 0, executor);
    if (!sums.ok()) return sums.status();
    for (size_t j = 0; j < sums->size(); ++j) channels.w[j] += (*sums)[j];
    total_rows += weight.out_features;
  }
  for (double& value : channels.w) value /= static_cast<double>(total_rows);
  for (std::vector<double>* values : {&channels.x, &channels.w}) {
    if (tied != nullptr) PoolTiedHeads(*tied, *values);
    if (!autoawq) FloorAtShareOfMean(*values);
  }
  return channels;
}

std::vector<ScaleCandidate> AllScaleCandidates(bool autoawq) {
  std::vector<ScaleCandidate> candidates;
  if (autoawq) {  // Ratios are 0 to 0.95, weight-aware alone, and there is no identity.
    for (int i = 0; i < kRatioSteps; ++i)
      candidates.push_back({false, true, i / double{kRatioSteps}});
    return candidates;
  }
  candidates.push_back({});
  for (int i = 1; i <= kRatioSteps; ++i)
    candidates.push_back({false, false, i / double{kRatioSteps}});
  // At ratio 1 the weights have no say: it is the last of the plain ones.
  for (int i = 0; i < kRatioSteps; ++i)
    candidates.push_back({false, true, i / double{kRatioSteps}});
  return candidates;
}

std::vector<float> ScalesOf(const ScaleCandidate& candidate, const ChannelMagnitudes& channels,
                            bool autoawq) {
  const std::vector<double>& x = channels.x;
  const std::vector<double>& w = channels.w;
  std::vector<float> scales(x.size(), 1.0f);
  if (candidate.identity) return scales;
  std::vector<double> raw(x.size());
  for (size_t j = 0; j < x.size(); ++j) {
    raw[j] = std::pow(x[j], candidate.ratio);
    if (candidate.weight_aware) {
      raw[j] /= std::pow(w[j], 1 - candidate.ratio) + (autoawq ? 1e-4 : 0);
    }
    if (autoawq) raw[j] = std::max(raw[j], 1e-4);
  }
  const auto [lo, hi] = std::minmax_element(raw.begin(), raw.end());
  // A common factor of s changes no loss; this one puts the largest and the smallest equally
  // far from 1.
  const double middle = std::sqrt(*lo * *hi);
  for (size_t j = 0; j < x.size(); ++j) {
    const float scale = static_cast<float>(raw[j] / middle);
    // 8 significant bits: cheap to store, and s^-1 folds into 16-bit tensors with less error.
    scales[j] = autoawq ? scale : BF16ToF32(F32ToBF16(scale));
    if (!std::isfinite(scales[j]) || !(scales[j] > 0)) scales[j] = 1.0f;
  }
  return scales;
}

}  // namespace salient
