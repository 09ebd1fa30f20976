#include "core/method/scale_awq.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/linalg/round_kernels.h"
#include "core/linalg/sum_kernels.h"
#include "core/linalg/tiles.h"
#include "core/method/ranges.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

constexpr int kSteps = 20;         // ratios are multiples of 1/20
constexpr double kFloor = 0x1p-7;  // of the mean |x|: a channel never seen must not die

// A task of the search: some rows of one weight.
struct Piece {
  const WeightView* weight;
  int64_t first;
  int64_t count;
};

std::vector<Piece> Cut(absl::Span<const WeightView> weights) {
  std::vector<Piece> pieces;
  for (const WeightView& weight : weights) {
    const RowTiles tiles(weight.out_features, kRowTile);
    for (int64_t t = 0; t < tiles.size(); ++t) {
      pieces.push_back({&weight, tiles.First(t), tiles.Count(t)});
    }
  }
  return pieces;
}

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

// w_j: |w| over the largest |w| of its (row, group), mean over all rows of all weights.
absl::StatusOr<std::vector<double>> RelativeWeights(absl::Span<const WeightView> weights,
                                                    const WeightFormat& format, bool autoawq,
                                                    Executor& executor) {
  const int64_t columns = weights[0].in_features;
  const int64_t group_size = format.GroupSize(columns);
  const double epsilon = autoawq ? 1e-6 : 0;
  const std::vector<Piece> pieces = Cut(weights);
  std::vector<std::vector<double>> partial(pieces.size());
  absl::Status status = executor.ForEach(static_cast<int64_t>(pieces.size()), [&](int64_t index) {
    const Piece& piece = pieces[index];
    Matrix rows(piece.count, columns);
    piece.weight->ReadRows(piece.first, piece.count, rows.data());
    std::vector<double>& sums = partial[index];
    sums.assign(static_cast<size_t>(columns), 0.0);
    for (int64_t i = 0; i < piece.count; ++i) {
      for (int64_t begin = 0; begin < columns; begin += group_size) {
        const auto [lo, hi] = MinMax(rows.Row(i) + begin, group_size);
        const double largest = std::max<double>(-lo, hi) + epsilon;
        if (!(largest > 0)) continue;
        for (int64_t j = begin; j < begin + group_size; ++j) {
          sums[j] += std::abs(static_cast<double>(rows.Row(i)[j])) / largest;
        }
      }
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  int64_t total_rows = 0;
  for (const WeightView& weight : weights) total_rows += weight.out_features;
  std::vector<double> mean(static_cast<size_t>(columns), 0.0);
  for (const std::vector<double>& sums : partial) {
    for (int64_t j = 0; j < columns; ++j) mean[j] += sums[j];
  }
  for (double& value : mean) value /= static_cast<double>(total_rows);
  return mean;
}

void FloorAtShareOfMean(std::vector<double>& channels) {
  double mean = 0;
  for (double value : channels) mean += value;
  mean /= static_cast<double>(channels.size());
  for (double& value : channels) value = std::max(value, kFloor * mean);
}

std::vector<ScaleCandidate> Candidates(bool autoawq) {
  std::vector<ScaleCandidate> candidates;
  if (autoawq) {  // ratio 0 to 0.95, weight-aware only, no identity
    for (int i = 0; i < kSteps; ++i) candidates.push_back({false, true, i / double{kSteps}});
    return candidates;
  }
  candidates.push_back({});
  for (int i = 1; i <= kSteps; ++i) candidates.push_back({false, false, i / double{kSteps}});
  // At ratio 1 the weights have no say: it is the last of the plain ones.
  for (int i = 0; i < kSteps; ++i) candidates.push_back({false, true, i / double{kSteps}});
  return candidates;
}

std::vector<float> ScalesOf(const ScaleCandidate& candidate, const std::vector<double>& x,
                            const std::vector<double>& w, bool autoawq) {
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
  const double middle = std::sqrt(*lo * *hi);
  for (size_t j = 0; j < x.size(); ++j) {
    const float scale = static_cast<float>(raw[j] / middle);
    // 8 significant bits: cheap to store, and s^-1 folds into 16-bit tensors with less error.
    scales[j] = autoawq ? scale : BF16ToF32(F32ToBF16(scale));
    if (!std::isfinite(scales[j]) || !(scales[j] > 0)) scales[j] = 1.0f;
  }
  return scales;
}

// Loss of round-to-nearest on min-max ranges of the scaled rows.
absl::StatusOr<Loss> NearestLoss(const Matrix& rows, const std::vector<float>& scales,
                                 const std::vector<float>& inverse, const LossModel& model,
                                 const WeightFormat& format, bool autoawq, Matrix& errors) {
  const int64_t columns = rows.cols();
  const int64_t group_size = format.GroupSize(columns);
  for (int64_t i = 0; i < rows.rows(); ++i) {
    float* error = errors.Row(i);
    Multiply(rows.Row(i), scales.data(), columns, error);
    for (int64_t begin = 0; begin < columns; begin += group_size) {
      const auto [lo, hi] = MinMax(error + begin, group_size);
      const Affine affine =
          autoawq ? FitAffineAutoAwq(lo, hi, format) : FitAffine(lo, hi, 1.0f, format);
      NearestErrors(error + begin, group_size, affine, error + begin);
    }
    Multiply(error, inverse.data(), columns, error);
  }
  return model.Evaluate(errors.data(), rows.rows());
}

size_t Best(const std::vector<Loss>& losses, bool autoawq) {
  size_t best = 0;
  for (size_t c = 1; c < losses.size(); ++c) {
    if (!(losses[c].Value() < losses[best].Value())) continue;
    best = c;
  }
  if (autoawq || best == 0) return best;
  // Doing nothing stays unless the gain is more than the estimate's own noise.
  const double gain = losses[0].Value() - losses[best].Value();
  return gain > losses[best].StandardErrorOfDifference(losses[0]) ? best : 0;
}

}  // namespace

absl::StatusOr<ScaleSearch> SearchAwqScale(absl::Span<const WeightView> weights,
                                           const Statistics& statistics, const LossModel& model,
                                           const WeightFormat& format, const ScaleAwqParams& params,
                                           Executor& executor) {
  const int64_t columns = model.in_features();
  std::vector<double> x(statistics.sum_abs);
  for (double& value : x) value /= static_cast<double>(statistics.token_count);
  absl::StatusOr<std::vector<double>> w =
      RelativeWeights(weights, format, params.autoawq, executor);
  if (!w.ok()) return w.status();
  if (params.tied_heads.has_value()) {
    PoolTiedHeads(*params.tied_heads, x);
    PoolTiedHeads(*params.tied_heads, *w);
  }
  if (!params.autoawq) {
    FloorAtShareOfMean(x);
    FloorAtShareOfMean(*w);
  }

  ScaleSearch search;
  search.candidates = Candidates(params.autoawq);
  std::vector<std::vector<float>> scales;
  std::vector<std::vector<float>> inverses;
  for (const ScaleCandidate& candidate : search.candidates) {
    scales.push_back(ScalesOf(candidate, x, *w, params.autoawq));
    inverses.push_back(scales.back());
    for (float& value : inverses.back()) value = 1.0f / value;
  }

  // All candidates of some rows in one task: the rows are widened once and stay in cache.
  const std::vector<Piece> pieces = Cut(weights);
  std::vector<std::vector<Loss>> partial(pieces.size());
  absl::Status status =
      executor.ForEach(static_cast<int64_t>(pieces.size()), [&](int64_t index) -> absl::Status {
        const Piece& piece = pieces[index];
        Matrix rows(piece.count, columns);
        Matrix errors(piece.count, columns);
        piece.weight->ReadRows(piece.first, piece.count, rows.data());
        for (size_t c = 0; c < scales.size(); ++c) {
          absl::StatusOr<Loss> loss =
              NearestLoss(rows, scales[c], inverses[c], model, format, params.autoawq, errors);
          if (!loss.ok()) return loss.status();
          partial[index].push_back(*std::move(loss));
        }
        return absl::OkStatus();
      });
  if (!status.ok()) return status;

  std::vector<Loss> losses(scales.size());
  for (const std::vector<Loss>& piece : partial) {
    for (size_t c = 0; c < losses.size(); ++c) losses[c].Add(piece[c]);
  }
  for (const Loss& loss : losses) search.losses.push_back(loss.Value());
  const size_t best = Best(losses, params.autoawq);
  search.chosen = search.candidates[best];
  search.scales = std::move(scales[best]);
  return search;
}

}  // namespace salient
