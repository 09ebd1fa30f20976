#include "core/method/scale_contest.h"

#include <algorithm>
#include <limits>

#include "core/kernels/search_kernels.h"
#include "core/parallel/tiles.h"

namespace salient {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Extent Union(const Extent& a, const Extent& b) {
  return {std::min(a.lo, b.lo), std::max(a.hi, b.hi)};
}

// The range of every weight under every scaling.
absl::Status Measure(ScaleContest& contest, Executor& executor) {
  const std::vector<WeightPiece> pieces = CutWeights(contest.weights, 1, kRowTile);
  std::vector<std::vector<Extent>> partial(pieces.size());
  absl::Status status = executor.ForEach(static_cast<int64_t>(pieces.size()), [&](int64_t index) {
    const Matrix rows = ReadPiece(contest.weights[pieces[index].weight], pieces[index], 1);
    for (const Scaling& scaling : contest.scalings) {
      // A row is read once and measured under every scaling while it is in the cache.
      Extent extent{kInfinity, -kInfinity};
      for (int64_t t = 0; t < rows.rows(); ++t) {
        Extent row;
        ScaledMinMax(rows.Row(t), scaling.scales.data(), 1, rows.cols(), &row.lo, &row.hi);
        extent = Union(extent, row);
      }
      partial[index].push_back(extent);
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  contest.extents.assign(contest.weights.size(),
                         std::vector<Extent>(contest.scalings.size(), {kInfinity, -kInfinity}));
  for (size_t p = 0; p < pieces.size(); ++p) {
    std::vector<Extent>& extents = contest.extents[pieces[p].weight];
    for (size_t c = 0; c < extents.size(); ++c) extents[c] = Union(extents[c], partial[p][c]);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ScaleContest> ScaleContest::Create(absl::Span<const WeightView> weights,
                                                  ScaleProposals proposals,
                                                  const WeightFormat& format, Executor& executor) {
  ScaleContest contest{weights, std::move(proposals.candidates), {}, {}};
  for (std::vector<float>& scales : proposals.scales) {
    contest.scalings.emplace_back(std::move(scales));
  }
  if (format.group_size == kWholeTensor) {
    if (absl::Status status = Measure(contest, executor); !status.ok()) return status;
  }
  return contest;
}

void ScaleContest::Keep(const std::vector<size_t>& places) {
  std::vector<ScaleCandidate> kept;
  std::vector<Scaling> those;
  for (size_t c : places) {
    kept.push_back(candidates[c]);
    those.push_back(std::move(scalings[c]));
  }
  // Extents stand by scaling, so they are thinned out alike.
  for (std::vector<Extent>& of_weight : extents) {
    std::vector<Extent> of_those;
    for (size_t c : places) of_those.push_back(of_weight[c]);
    of_weight = std::move(of_those);
  }
  candidates = std::move(kept);
  scalings = std::move(those);
}

std::vector<WeightPiece> CutWeights(absl::Span<const WeightView> weights, int64_t stride,
                                    int64_t tile) {
  std::vector<WeightPiece> pieces;
  for (size_t w = 0; w < weights.size(); ++w) {
    // A sample takes every stride-th row from the middle of the first stride, so that no weight is
    // left without one.
    const int64_t offset = std::min(stride, weights[w].out_features) / 2;
    const RowTiles tiles((weights[w].out_features - offset + stride - 1) / stride, tile);
    for (int64_t t = 0; t < tiles.size(); ++t) {
      pieces.push_back({w, offset + tiles.First(t) * stride, tiles.Count(t)});
    }
  }
  return pieces;
}

Matrix ReadPiece(const WeightView& weight, const WeightPiece& piece, int64_t stride) {
  Matrix rows(piece.count, weight.in_features);
  if (stride == 1) {
    weight.ReadRows(piece.first, piece.count, rows.data());
    return rows;
  }
  for (int64_t t = 0; t < piece.count; ++t) {
    weight.ReadRows(piece.first + t * stride, 1, rows.Row(t));
  }
  return rows;
}

}  // namespace salient
