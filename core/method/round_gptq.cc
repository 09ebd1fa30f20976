#include "core/method/round_gptq.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/kernels/panel_kernels.h"
#include "core/linalg/cholesky.h"
#include "core/linalg/gemm.h"
#include "core/method/bounds.h"
#include "core/method/coordinate_descent.h"
#include "core/method/damping.h"
#include "core/method/full_curvature.h"
#include "core/method/ranges.h"
#include "core/parallel/tiles.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

// Share of the mean diagonal that f32 can tell from nothing.
constexpr double kLeastPivot = 1e-6;

// Groups are hardly smaller.
constexpr int64_t kSmallGroup = 8;

// Rows that descend together: fewer where a row is so long that a panel would take long to cancel.
int64_t DescentRows(int64_t columns) { return columns > 8192 ? kPanelRows / 2 : kPanelRows; }

struct DampedFactor {
  UpperFactor factor;
  float damping = 0;
};

absl::StatusOr<DampedFactor> Factor(const FullCurvature& curvature, absl::Span<const int32_t> order,
                                    float damping, Executor& executor) {
  while (true) {
    absl::StatusOr<Matrix> damped = curvature.Damped(order, damping, executor);
    if (!damped.ok()) return damped.status();
    // No pivot is below what was added to the diagonal, but for rounding.
    const double least = std::max(0.5 * damping, kLeastPivot) * curvature.mean_diagonal();
    absl::StatusOr<UpperFactor> factor = UpperCholesky(*std::move(damped), least, executor);
    if (factor.ok()) return DampedFactor{*std::move(factor), damping};
    if (!absl::IsFailedPrecondition(factor.status())) return factor.status();
    const std::optional<float> raised = RaisedDamping(damping);
    if (!raised.has_value()) {
      return absl::InternalError(
          absl::StrCat("X^T X of ", order.size(), " columns, damped by ", damping,
                       " of its mean diagonal: ", factor.status().message()));
    }
    damping = *raised;
  }
}

// Error feedback for rows of one weight, columns in the order in which they are visited.
class Feedback {
 public:
  Feedback(const UpperFactor& factor, const std::vector<int32_t>& order, const RoundInput& input,
           absl::Span<const float> scales, AffineGroups& result)
      : factor_(factor),
        order_(order),
        input_(input),
        scales_(scales),
        result_(result),
        columns_(static_cast<int64_t>(order.size())),
        group_size_(result.format.GroupSize(columns_)) {}

  absl::Status Round(int64_t first, int64_t count) {
    // Behind the column that is next stand errors w s - w', from it on weights.
    Matrix rows = Matrix::Unset(count, columns_);
    {
      Matrix stored = Matrix::Unset(count, columns_);
      ReadScaledRows(input_.weight, scales_, first, count, stored.data());
      for (int64_t t = 0; t < count; ++t) {
        for (int64_t p = 0; p < columns_; ++p) rows.Row(t)[p] = stored.Row(t)[order_[p]];
      }
    }
    Matrix given = Matrix::Unset(count, kFactorBlock);  // It is d R of the columns before.
    Matrix moved(count, kFactorBlock);  // It says by how much that moves the weights.
    for (size_t b = 0; b < factor_.inverses.size(); ++b) {
      const Matrix& inverse = factor_.inverses[b];
      const int64_t begin = static_cast<int64_t>(b) * kFactorBlock;
      const int64_t width = inverse.cols();
      if (begin > 0) {
        absl::Status status =
            Gemm(Op::kPlain, Op::kPlain, count, width, begin, rows.data(), columns_,
                 factor_.r.data() + begin, columns_, 0.0f, given.data(), kFactorBlock);
        if (!status.ok()) return status;
        status = Gemm(Op::kPlain, Op::kPlain, count, width, width, given.data(), kFactorBlock,
                      inverse.data(), width, 0.0f, moved.data(), kFactorBlock);
        if (!status.ok()) return status;
      }
      for (int64_t t = 0; t < count; t += kPanelRows) {
        RoundPanel(inverse, begin, first + t, std::min(kPanelRows, count - t), moved.Row(t),
                   rows.Row(t) + begin);
      }
    }
    return absl::OkStatus();
  }

 private:
  // Columns [begin, begin + width) in the order of visit, of `count` rows from `row` on. `weights`
  // become errors.
  void RoundPanel(const Matrix& inverse, int64_t begin, int64_t row, int64_t count,
                  const float* moved, float* weights) {
    const int64_t width = inverse.cols();
    const Ranges& ranges = *input_.ranges;
    std::vector<int32_t> in_place(static_cast<size_t>(width));
    Matrix scales(width, kPanelRows);  // Each column has a map, because any group may come next.
    Matrix zero_points(width, kPanelRows);
    Matrix work(width, kPanelRows);
    Matrix codes = Matrix::Unset(width, kPanelRows);
    for (int64_t p = 0; p < width; ++p) {
      in_place[p] = static_cast<int32_t>(p);
      const int64_t group = order_[begin + p] / group_size_;
      for (int64_t t = 0; t < kPanelRows; ++t) {
        const int64_t at = (row + t) * ranges.groups + group;
        scales.Row(p)[t] = t < count ? ranges.scales[at] : 1.0f;
        if (t >= count) continue;
        zero_points.Row(p)[t] = ranges.zero_points[at];
        work.Row(p)[t] = weights[t * columns_ + p] + moved[t * kFactorBlock + p];
      }
    }
    PanelGptq(inverse.data(), width, in_place.data(),
              {in_place.data(), scales.data(), zero_points.data(),
               static_cast<float>(result_.format.MaxCode())},
              work.data(), codes.data());
    for (int64_t t = 0; t < count; ++t) {
      float* weight = weights + t * columns_;
      uint8_t* code = result_.codes.data() + (row + t) * columns_;
      for (int64_t p = 0; p < width; ++p) {
        const float offset = codes.Row(p)[t];
        // Columns to come need the error w s - w' of this one, so it takes the weight's place.
        weight[p] -= offset * scales.Row(p)[t];
        code[order_[begin + p]] =
            static_cast<uint8_t>(static_cast<int32_t>(offset + zero_points.Row(p)[t]));
      }
    }
  }

  const UpperFactor& factor_;
  const std::vector<int32_t>& order_;
  const RoundInput& input_;
  absl::Span<const float> scales_;
  AffineGroups& result_;
  int64_t columns_;
  int64_t group_size_;
};

// Steps 2 and 3 of rows [row, row + count) of a weight.
absl::Status Descend(const DescentBlock& block, const RoundInput& input,
                     absl::Span<const float> scales, const RoundGptqParams& params, int64_t row,
                     int64_t count, AffineGroups& result) {
  const int64_t columns = block.columns();
  DescentPanel panel({&block, 1}, result.format.GroupSize(columns), result.format,
                     DescentRows(columns));
  panel.Begin({&block, 1}, *input.ranges, row, 0, count);
  for (int64_t t = 0; t < count; ++t) {
    const uint8_t* codes = result.codes.data() + (row + t) * columns;
    for (const DescentPanel::Segment& segment : panel.segments()) {
      const float zero = panel.zero_points().Row(t)[segment.group];
      for (int64_t j = segment.begin; j < segment.end; ++j) {
        panel.codes().Row(t)[j] = static_cast<float>(codes[j]) - zero;
      }
    }
  }
  {
    Matrix rows = Matrix::Unset(count, columns);
    ReadScaledRows(input.weight, scales, row, count, rows.data());
    if (absl::Status status = panel.Measure(rows.data(), columns); !status.ok()) return status;
  }
  // A scale that all rows share cannot be refitted row by row.
  const bool shared_scale = result.format.group_size == kWholeTensor;
  for (int r = 0; r < params.refits; ++r) {
    panel.DescendCodes(params.descent_sweeps);
    if (shared_scale) continue;
    if (absl::Status status = panel.DescendScales(); !status.ok()) return status;
  }
  panel.DescendCodes(LastSweeps(params.descent_sweeps, params.refits));
  panel.Store(row, 0, result);
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateRoundGptqParams(const RoundGptqParams& params) {
  const auto fail = [](absl::string_view field, auto value, absl::string_view expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("gptq.", field, " is ", value, "; expected ", expected));
  };
  if (!(params.damping >= 0 && params.damping <= kMostDamping)) {
    return fail("damping", params.damping, absl::StrCat("0 to ", kMostDamping));
  }
  if (params.descent_sweeps < 0 || params.descent_sweeps > kMostDescentSweeps) {
    return fail("descent_sweeps", params.descent_sweeps, absl::StrCat("0 to ", kMostDescentSweeps));
  }
  if (params.refits < 0 || params.refits > kMostRefits) {
    return fail("refits", params.refits, absl::StrCat("0 to ", kMostRefits));
  }
  return absl::OkStatus();
}

absl::StatusOr<GptqRounding> RoundGptq(absl::Span<const RoundInput> inputs,
                                       absl::Span<const float> scales, const LossModel& model,
                                       const WeightFormat& format, const RoundGptqParams& params,
                                       Executor& executor) {
  if (absl::Status status = ValidateRoundGptqParams(params); !status.ok()) return status;
  const absl::StatusOr<FullCurvature> curvature = FullCurvature::Create(model, scales);
  if (!curvature.ok()) return curvature.status();
  GptqRounding result;
  std::vector<int64_t> rows_of;
  for (const RoundInput& input : inputs) {
    result.groups.push_back(EmptyGroups(input.weight, *input.ranges, format));
    rows_of.push_back(input.weight.out_features);
  }
  {
    const std::vector<int32_t> order = curvature->Order(params.act_order);
    const absl::StatusOr<DampedFactor> damped = Factor(*curvature, order, params.damping, executor);
    if (!damped.ok()) return damped.status();
    result.damping = damped->damping;
    const StackedTiles tiles(rows_of, kRowTile);
    absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
      const auto [index, row, count] = tiles.At(tile);
      return Feedback(damped->factor, order, inputs[index], scales, result.groups[index])
          .Round(row, count);
    });
    if (!status.ok()) return status;
  }
  if (params.descent_sweeps == 0 && params.refits == 0) return result;
  // The factor is gone: A takes its place again.
  const absl::StatusOr<Matrix> damped =
      curvature->Damped(curvature->Order(/*falling=*/false), result.damping, executor);
  if (!damped.ok()) return damped.status();
  std::vector<float> diagonal;
  for (int64_t j = 0; j < damped->rows(); ++j) diagonal.push_back(damped->Row(j)[j]);
  const DescentBlock block{0, damped->View(), diagonal.data()};
  const StackedTiles tiles(rows_of, DescentRows(block.columns()));
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    const auto [index, row, count] = tiles.At(tile);
    return Descend(block, inputs[index], scales, params, row, count, result.groups[index]);
  });
  if (!status.ok()) return status;
  return result;
}

int64_t RoundGptqMemoryBytes(int64_t in_features, int concurrency) {
  const int64_t size = static_cast<int64_t>(sizeof(float));
  const int64_t blocks = in_features * (in_features + kFactorBlock) * size;
  // A tile of the factor, in f64: what is left of A, and rows to eliminate.
  const int64_t tile = 8 * kFactorBlock * kFactorBlock * 8;
  const int64_t feedback =
      2 * kRowTile * (in_features + kFactorBlock) * size + 4 * kFactorBlock * kPanelRows * size;
  const int64_t rows = DescentRows(in_features);
  const int64_t descent = DescentPanel::MemoryBytes(in_features, in_features / kSmallGroup, rows) +
                          rows * in_features * size;
  return blocks + 4 * in_features * size + concurrency * std::max({tile, feedback, descent});
}

}  // namespace salient
