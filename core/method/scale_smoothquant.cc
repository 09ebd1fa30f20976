#include "core/method/scale_smoothquant.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/method/bounds.h"
#include "core/method/scale_contest.h"
#include "core/parallel/tiles.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

// Joins the largest |W_ij| of each column of `weight` into `largest`.
absl::Status AddLargest(const WeightView& weight, Executor& executor,
                        std::vector<double>& largest) {
  const int64_t columns = weight.in_features;
  const RowTiles tiles(weight.out_features, kRowTile);
  std::vector<std::vector<float>> partial(static_cast<size_t>(tiles.size()));
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    Matrix rows(tiles.Count(tile), columns);
    weight.ReadRows(tiles.First(tile), rows.rows(), rows.data());
    // Each tile has maxima of its own and they are joined afterwards: no two workers write one
    // column.
    partial[tile].assign(static_cast<size_t>(columns), 0.0f);
    float* sizes = partial[tile].data();
    for (int64_t i = 0; i < rows.rows(); ++i) {
      const float* row = rows.Row(i);
      for (int64_t j = 0; j < columns; ++j) sizes[j] = std::max(sizes[j], std::abs(row[j]));
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  for (const std::vector<float>& sizes : partial) {
    for (size_t j = 0; j < largest.size(); ++j) largest[j] = std::max<double>(largest[j], sizes[j]);
  }
  return absl::OkStatus();
}

// Replaces each channel by the largest of those it is tied to.
void JoinTiedHeads(const TiedHeads& tied, std::vector<double>& channels) {
  const int64_t shared = tied.head_dim * tied.query_heads_per_kv_head;
  const int64_t columns = static_cast<int64_t>(channels.size());
  for (int64_t first = 0; first < columns; first += shared) {
    for (int64_t d = 0; d < tied.head_dim; ++d) {
      double largest = 0;
      for (int64_t j = first + d; j < first + shared; j += tied.head_dim) {
        largest = std::max(largest, channels[j]);
      }
      for (int64_t j = first + d; j < first + shared; j += tied.head_dim) channels[j] = largest;
    }
  }
}

}  // namespace

absl::Status ValidateScaleSmoothQuantParams(const ScaleSmoothQuantParams& params) {
  if (!params.alpha.has_value() || (*params.alpha >= 0 && *params.alpha <= kMostAlpha)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("smoothquant.alpha is ", *params.alpha, "; expected 0 to ", kMostAlpha));
}

std::vector<ScaleCandidate> SmoothQuantCandidates() {
  std::vector<ScaleCandidate> candidates = {{}};
  for (int i = 0; i <= kRatioSteps; ++i) {
    candidates.push_back({false, true, i / double{kRatioSteps}, true});
  }
  return candidates;
}

absl::StatusOr<ScaleProposals> ProposeSmoothQuantScales(absl::Span<const WeightView> weights,
                                                        const Statistics& statistics,
                                                        const ScaleSmoothQuantParams& params,
                                                        const TiedHeads* tied, Executor& executor) {
  const StageScope stage(executor, Stage::kScaleSearch);
  ChannelMagnitudes channels;
  channels.x.assign(statistics.max_abs.begin(), statistics.max_abs.end());
  channels.w.assign(channels.x.size(), 0.0);
  for (const WeightView& weight : weights) {
    if (absl::Status status = AddLargest(weight, executor, channels.w); !status.ok()) {
      return status;
    }
  }
  // Tied heads share one factor, so both sides have to be joined before s is made of them.
  for (std::vector<double>* values : {&channels.x, &channels.w}) {
    if (tied != nullptr) JoinTiedHeads(*tied, *values);
    FloorAtShareOfMean(*values);
  }
  ScaleProposals proposals;
  const auto propose = [&](const ScaleCandidate& candidate) {
    proposals.candidates.push_back(candidate);
    proposals.scales.push_back(ScalesOf(candidate, channels, false));
  };
  if (params.alpha.has_value()) {
    propose({false, true, *params.alpha, true});
    return proposals;
  }
  // Identity goes first: another candidate replaces it only by more than its standard error.
  for (const ScaleCandidate& candidate : SmoothQuantCandidates()) propose(candidate);
  return proposals;
}

}  // namespace salient
