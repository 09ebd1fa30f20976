#include "core/method/scale_search.h"

#include <algorithm>
#include <utility>

#include "absl/functional/function_ref.h"
#include "core/kernels/round_kernels.h"
#include "core/kernels/search_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/method/ranges.h"
#include "core/method/scale_contest.h"
#include "core/parallel/tiles.h"
#include "core/statistics/search_loss.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

constexpr int64_t kScreenTile = 16;  // A task has so many sampled rows.

// Losses of all candidates on one piece.
using PieceLosses = absl::StatusOr<std::vector<Loss>>;

// Sums of the losses of all candidates over all pieces. The rows of a piece are widened once and
// stay in cache for all candidates.
absl::StatusOr<std::vector<Loss>> SumOverPieces(
    const ScaleContest& contest, Executor& executor,
    absl::FunctionRef<PieceLosses(const Matrix& rows, size_t weight)> losses_of) {
  const std::vector<WeightPiece> pieces = CutWeights(contest.weights, 1, kRowTile);
  std::vector<std::vector<Loss>> partial(pieces.size());
  absl::Status status =
      executor.ForEach(static_cast<int64_t>(pieces.size()), [&](int64_t index) -> absl::Status {
        const WeightPiece& piece = pieces[index];
        PieceLosses losses =
            losses_of(ReadPiece(contest.weights[piece.weight], piece, 1), piece.weight);
        if (!losses.ok()) return losses.status();
        partial[index] = *std::move(losses);
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  std::vector<Loss> total(contest.scalings.size());
  for (const std::vector<Loss>& piece : partial) {
    for (size_t c = 0; c < total.size(); ++c) total[c].Add(piece[c]);
  }
  return total;
}

// Loss of round-to-nearest on min-max ranges of the scaled rows.
absl::StatusOr<Loss> NearestLoss(const Matrix& rows, const Scaling& scaling, const Extent* whole,
                                 const LossModel& model, const WeightFormat& format, bool autoawq,
                                 Matrix& errors) {
  const int64_t columns = rows.cols();
  const int64_t group_size = format.GroupSize(columns);
  for (int64_t i = 0; i < rows.rows(); ++i) {
    float* error = errors.Row(i);
    Multiply(rows.Row(i), scaling.scales.data(), columns, error);
    for (int64_t begin = 0; begin < columns; begin += group_size) {
      const auto [lo, hi] =
          whole != nullptr ? std::pair(whole->lo, whole->hi) : MinMax(error + begin, group_size);
      const Affine affine =
          autoawq ? FitAffineAutoAwq(lo, hi, format) : FitAffine(lo, hi, 1.0f, format);
      NearestErrors(error + begin, group_size, affine, error + begin);
    }
    Multiply(error, scaling.inverse.data(), columns, error);
  }
  return model.Evaluate(errors.data(), rows.rows());
}

PieceLosses ExactLosses(const Matrix& rows, size_t weight, const ScaleContest& contest,
                        const LossModel& model, const WeightFormat& format, bool autoawq) {
  Matrix errors(rows.rows(), rows.cols());
  std::vector<Loss> losses;
  for (size_t c = 0; c < contest.scalings.size(); ++c) {
    absl::StatusOr<Loss> loss = NearestLoss(rows, contest.scalings[c], contest.ExtentOf(weight, c),
                                            model, format, autoawq, errors);
    if (!loss.ok()) return loss.status();
    losses.push_back(*std::move(loss));
  }
  return losses;
}

// The affine maps of round-to-nearest on min-max ranges under one scaling.
struct Maps {
  Maps(int64_t rows, int64_t groups) : scales(rows, groups), zero_points(rows, groups) {}
  Matrix scales;
  Matrix zero_points;
};

// Fits the maps of one row of weights, into row t of `maps`; `whole` as in ScaleContest::ExtentOf.
// `lo` and `hi` are scratch, a float a group.
void FitRow(const float* row, const Scaling& scaling, const Extent* whole,
            const WeightFormat& format, int64_t t, Matrix& lo, Matrix& hi, Maps& maps) {
  const int64_t groups = maps.scales.cols();
  const int64_t group_size = static_cast<int64_t>(scaling.scales.size()) / groups;
  if (whole != nullptr) {
    *lo.data() = whole->lo;
    *hi.data() = whole->hi;
  } else {
    ScaledMinMax(row, scaling.scales.data(), groups, group_size, lo.data(), hi.data());
  }
  FitAffines(lo.data(), hi.data(), 1.0f, groups, format, maps.scales.Row(t),
             maps.zero_points.Row(t));
}

// Columns [begin, begin + columns) of `rows` under `maps`, as RoundPanel takes them.
RoundingPanel PanelOf(const Matrix& rows, const Scaling& scaling, const Maps& maps,
                      const WeightFormat& format, const SearchLoss& loss, int64_t begin,
                      int64_t columns) {
  RoundingPanel panel;
  panel.rows = rows.rows();
  panel.columns = columns;
  panel.w = rows.data() + begin;
  panel.w_stride = rows.cols();
  panel.s = scaling.scales.data() + begin;
  panel.inverse_s = scaling.inverse.data() + begin;
  panel.scales = maps.scales.data();
  panel.zero_points = maps.zero_points.data();
  panel.maps_stride = maps.scales.cols();
  panel.begin = begin;
  panel.group_size = format.GroupSize(rows.cols());
  panel.max_code = static_cast<float>(format.MaxCode());
  panel.diagonal = loss.diagonal() + begin;
  panel.mean = loss.mean() + begin;
  return panel;
}

// All candidates on some rows, a block of columns after the other: a block's weights, its part of
// the loss and the errors of one candidate fit into cache together.
PieceLosses BlockwiseLosses(const Matrix& rows, size_t weight, const ScaleContest& contest,
                            const SearchLoss& loss, const WeightFormat& format) {
  const std::vector<Scaling>& scalings = contest.scalings;
  const int64_t groups = rows.cols() / format.GroupSize(rows.cols());
  std::vector<Maps> maps;
  std::vector<SearchLoss::Sums> sums;
  for (size_t c = 0; c < scalings.size(); ++c) {
    maps.emplace_back(rows.rows(), groups);
    sums.emplace_back(loss, rows.rows());
  }
  Matrix lo(1, groups);
  Matrix hi(1, groups);
  for (int64_t t = 0; t < rows.rows(); ++t) {
    for (size_t c = 0; c < scalings.size(); ++c) {
      FitRow(rows.Row(t), scalings[c], contest.ExtentOf(weight, c), format, t, lo, hi, maps[c]);
    }
  }
  SearchLoss::Scratch scratch(loss, rows.rows());
  std::vector<uint16_t> errors(static_cast<size_t>(rows.rows() * loss.WidestBlock()));
  for (int64_t b = 0; b < loss.Blocks(); ++b) {
    for (size_t c = 0; c < scalings.size(); ++c) {
      uint16_t* piece = errors.data();
      const int64_t end = loss.First(b) + loss.Columns(b);
      for (int64_t at = loss.First(b); at < end; at += SearchLoss::kPiece) {
        const int64_t columns = std::min(SearchLoss::kPiece, end - at);
        RoundPanel(PanelOf(rows, scalings[c], maps[c], format, loss, at, columns), piece,
                   sums[c].squares.data(), sums[c].shifts.data());
        piece += rows.rows() * columns;
      }
      if (absl::Status status = loss.AddBlock(b, errors.data(), rows.rows(), scratch, sums[c]);
          !status.ok()) {
        return status;
      }
    }
  }
  std::vector<Loss> losses;
  for (const SearchLoss::Sums& candidate : sums) losses.push_back(loss.Total(candidate));
  return losses;
}

// The losses of all scalings on a sample of rows, without what is off the diagonal of H_c: the
// errors of different columns hardly know of each other, so over many rows that part is small, and
// without it no product is needed.
absl::StatusOr<std::vector<double>> ScreenedLosses(const ScaleContest& contest,
                                                   const SearchLoss& loss,
                                                   const WeightFormat& format, int64_t stride,
                                                   Executor& executor) {
  const std::vector<Scaling>& scalings = contest.scalings;
  const std::vector<WeightPiece> pieces = CutWeights(contest.weights, stride, kScreenTile);
  std::vector<std::vector<double>> partial(pieces.size());
  absl::Status status = executor.ForEach(static_cast<int64_t>(pieces.size()), [&](int64_t index) {
    const size_t weight = pieces[index].weight;
    const Matrix rows = ReadPiece(contest.weights[weight], pieces[index], stride);
    const int64_t groups = rows.cols() / format.GroupSize(rows.cols());
    Maps maps(rows.rows(), groups);
    Matrix lo(1, groups);
    Matrix hi(1, groups);
    for (size_t c = 0; c < scalings.size(); ++c) {
      for (int64_t t = 0; t < rows.rows(); ++t) {
        FitRow(rows.Row(t), scalings[c], contest.ExtentOf(weight, c), format, t, lo, hi, maps);
      }
      std::vector<double> squares(static_cast<size_t>(rows.rows()), 0.0);
      std::vector<double> shifts(squares);
      RoundPanel(PanelOf(rows, scalings[c], maps, format, loss, 0, rows.cols()), nullptr,
                 squares.data(), shifts.data());
      double sum = 0;
      for (size_t t = 0; t < squares.size(); ++t) sum += squares[t] + shifts[t] * shifts[t];
      partial[index].push_back(sum);
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  std::vector<double> total(scalings.size(), 0.0);
  for (const std::vector<double>& piece : partial) {
    for (size_t c = 0; c < total.size(); ++c) total[c] += piece[c];
  }
  return total;
}

// Identity, and the others whose screened losses are least; in the order of `candidates`.
std::vector<size_t> Finalists(const std::vector<double>& screened) {
  std::vector<size_t> order;
  for (size_t c = 1; c < screened.size(); ++c) order.push_back(c);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return screened[a] < screened[b]; });
  order.resize(std::min(order.size(), kScreenFinalists));
  order.push_back(0);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

size_t LeastLoss(absl::Span<const Loss> losses, bool autoawq) {
  size_t best = 0;
  for (size_t c = 1; c < losses.size(); ++c) {
    if (losses[c].IsKnown() && losses[c].Value() < losses[best].Value()) best = c;
  }
  if (autoawq || best == 0) return best;
  // Doing nothing stays unless the gain is more than the estimate's own noise.
  const double gain = losses[0].Value() - losses[best].Value();
  return gain > losses[best].StandardErrorOfDifference(losses[0]) ? best : 0;
}

absl::StatusOr<ScaleSearch> SearchScales(absl::Span<const WeightView> weights,
                                         ScaleProposals proposals, const LossModel& model,
                                         const WeightFormat& format,
                                         const ScaleSearchParams& params, Executor& executor) {
  absl::StatusOr<ScaleContest> created =
      ScaleContest::Create(weights, std::move(proposals), format, executor);
  if (!created.ok()) return created.status();
  ScaleContest& contest = *created;
  absl::StatusOr<std::vector<Loss>> losses;
  if (params.autoawq || params.exhaustive) {
    losses = SumOverPieces(contest, executor, [&](const Matrix& rows, size_t weight) {
      return ExactLosses(rows, weight, contest, model, format, params.autoawq);
    });
  } else {
    absl::StatusOr<SearchLoss> loss = SearchLoss::Create(model, executor);
    if (!loss.ok()) return loss.status();
    int64_t total_rows = 0;
    for (const WeightView& weight : weights) total_rows += weight.out_features;
    if (total_rows > kUnscreenedRows) {
      absl::StatusOr<std::vector<double>> screened = ScreenedLosses(
          contest, *loss, format, std::max<int64_t>(1, total_rows / kScreenedRows), executor);
      if (!screened.ok()) return screened.status();
      contest.Keep(Finalists(*screened));
    }
    losses = SumOverPieces(contest, executor, [&](const Matrix& rows, size_t weight) {
      return BlockwiseLosses(rows, weight, contest, *loss, format);
    });
  }
  if (!losses.ok()) return losses.status();

  ScaleSearch search;
  for (const Loss& loss : *losses) search.losses.push_back(loss.Value());
  const size_t best = LeastLoss(*losses, params.autoawq);
  search.chosen = contest.candidates[best];
  search.candidates = std::move(contest.candidates);
  search.scales = std::move(contest.scalings[best].scales);
  return search;
}

}  // namespace salient
