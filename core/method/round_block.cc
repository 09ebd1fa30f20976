#include "core/method/round_block.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/kernels/panel_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/linalg/cholesky.h"
#include "core/linalg/gemm.h"
#include "core/method/bounds.h"
#include "core/method/coordinate_descent.h"
#include "core/method/damping.h"
#include "core/method/error_feedback.h"
#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/parallel/tiles.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"

namespace salient {
namespace {

std::vector<DescentBlock> BlocksOf(absl::Span<const BlockCurvature> run) {
  std::vector<DescentBlock> blocks;
  for (const BlockCurvature& block : run) {
    blocks.push_back({block.first - run.front().first, block.h.View(), block.diagonal.data()});
  }
  return blocks;
}

// Up to kPanelRows rows of a weight, over the columns of consecutive blocks that share groups: a
// run, the shortest in which no group crosses an end. Matrices are [kPanelRows, columns of a run].
class Panel {
 public:
  Panel(absl::Span<const BlockCurvature> run, int64_t group_size, const WeightFormat& format)
      : panel_(BlocksOf(run), group_size, format),
        columns_(panel_.columns()),
        groups_(panel_.groups()),
        scale_dtype_(format.scale_dtype),
        counted_codes_(kPanelRows, columns_),
        curvature_(static_cast<size_t>(groups_ * groups_)),
        residual_(static_cast<size_t>(groups_)) {
    for (const DescentPanel::Segment& segment : panel_.segments()) {
      products_.emplace_back(kPanelRows, panel_.block(segment.block).columns());
    }
  }

  int64_t columns() const { return columns_; }

  // Rounds `count` rows, row t of which begins at rows + t * stride in the run's first column.
  // `blocks` are a run of the shape this panel was made for.
  absl::Status Round(absl::Span<const BlockCurvature> blocks, const float* rows, int64_t stride,
                     int64_t count, const Ranges& ranges, int64_t weight_row,
                     const RoundBlockParams& params) {
    blocks_ = blocks;
    panel_.Begin(BlocksOf(blocks), ranges, weight_row, blocks.front().first / (columns_ / groups_),
                 count);
    FeedBackErrors(blocks, rows, stride, panel_);
    if (params.descent_sweeps == 0 && params.refits == 0) return absl::OkStatus();
    absl::Status status = panel_.Measure(rows, stride);
    for (int r = 0; r < params.refits && status.ok(); ++r) {
      panel_.DescendCodes(params.descent_sweeps);
      status = Refit(r == 0);
    }
    if (!status.ok()) return status;
    panel_.DescendCodes(LastSweeps(params.descent_sweeps, params.refits));
    return absl::OkStatus();
  }

  void Store(int64_t weight_row, AffineGroups& result) const {
    panel_.Store(weight_row, blocks_.front().first, result);
  }

 private:
  // Least squares in the scales x of each row: minimises (C x - w) H (C x - w)^T, where column g
  // of C holds the offsets code - zero_point of group g. products_ are C_g H of each segment.
  absl::Status Refit(bool first) {
    const absl::Span<const DescentPanel::Segment> segments = panel_.segments();
    Matrix& codes = panel_.codes();
    for (size_t i = 0; i < segments.size(); ++i) {
      const DescentPanel::Segment& segment = segments[i];
      const Matrix& h = blocks_[segment.block].h;
      const int64_t n = h.rows();
      const int64_t begin = panel_.block(segment.block).begin;
      if (first) {
        absl::Status status =
            Gemm(Op::kPlain, Op::kPlain, kPanelRows, n, segment.end - segment.begin,
                 codes.data() + segment.begin, columns_, h.Row(segment.begin - begin), n, 0.0f,
                 products_[i].data(), n);
        if (!status.ok()) return status;
        continue;
      }
      for (int64_t t = 0; t < panel_.count(); ++t) {
        AddChangedRows(h.data(), n, n, segment.begin - begin, segment.end - begin,
                       codes.Row(t) + begin, counted_codes_.Row(t) + begin, products_[i].Row(t));
      }
    }
    if (first) std::copy_n(codes.data(), kPanelRows * columns_, counted_codes_.data());
    for (int64_t t = 0; t < panel_.count(); ++t) RefitRow(t);
    return absl::OkStatus();
  }

  // With r = -C H (C x - w)^T and A = C H C^T the minimum is x + A^-1 r; a step y lowers the loss
  // by 2 r y - y A y.
  void RefitRow(int64_t t) {
    const absl::Span<const DescentPanel::Segment> segments = panel_.segments();
    const float* codes = panel_.codes().Row(t);
    float* gradient = panel_.gradient().Row(t);
    float* scales = panel_.scales().Row(t);
    std::fill(curvature_.begin(), curvature_.end(), 0.0);
    std::fill(residual_.begin(), residual_.end(), 0.0);
    for (size_t i = 0; i < segments.size(); ++i) {
      const DescentPanel::Segment& segment = segments[i];
      const float* product = products_[i].Row(t) - panel_.block(segment.block).begin;
      residual_[segment.group] -=
          Dot(codes + segment.begin, gradient + segment.begin, segment.end - segment.begin);
      for (size_t k = i; k < panel_.FirstSegment(segment.block + 1); ++k) {
        const DescentPanel::Segment& other = segments[k];
        const double sum = Dot(codes + other.begin, product + other.begin, other.end - other.begin);
        curvature_[segment.group * groups_ + other.group] += sum;
        if (k != i) curvature_[other.group * groups_ + segment.group] += sum;
      }
    }
    // Groups whose codes are all zero points have no say and keep their scale.
    active_.clear();
    for (int64_t g = 0; g < groups_; ++g) {
      if (curvature_[g * groups_ + g] > 0) active_.push_back(g);
    }
    // The normal equations of the groups that are left are dense and small: at most the groups of a
    // run.
    factor_.clear();
    step_.clear();
    for (int64_t g : active_) {
      step_.push_back(residual_[g]);
      for (int64_t h : active_) factor_.push_back(curvature_[g * groups_ + h]);
    }
    if (!SolveInPlace(absl::MakeSpan(factor_), absl::MakeSpan(step_)).ok()) return;
    for (size_t i = 0; i < active_.size(); ++i) {
      // The loss is judged at the scale that will be stored, not at the exact minimum, which its
      // dtype may not hold.
      const float old = scales[active_[i]];
      const float scale = RoundToDType(scale_dtype_, static_cast<float>(old + step_[i]));
      if (!(scale > 0) || !std::isfinite(scale)) return;
      step_[i] = double{scale} - old;
    }
    double gain = 0;
    for (size_t i = 0; i < active_.size(); ++i) {
      gain += 2 * residual_[active_[i]] * step_[i];
      for (size_t k = 0; k < active_.size(); ++k) {
        gain -= step_[i] * curvature_[active_[i] * groups_ + active_[k]] * step_[k];
      }
    }
    if (!(gain > 0)) return;
    // From here on it holds the step of every group.
    std::fill(residual_.begin(), residual_.end(), 0.0);
    for (size_t i = 0; i < active_.size(); ++i) {
      residual_[active_[i]] = step_[i];
      float& scale = scales[active_[i]];
      scale = RoundToDType(scale_dtype_, static_cast<float>(scale + step_[i]));
    }
    for (size_t i = 0; i < segments.size(); ++i) {
      const DescentPanel::Segment& segment = segments[i];
      // A changed scale moves the errors by step * C_g, so the gradient moves by step * C_g H.
      if (residual_[segment.group] == 0) continue;
      AddScaled(products_[i].Row(t), static_cast<float>(residual_[segment.group]),
                products_[i].cols(), gradient + panel_.block(segment.block).begin);
    }
  }

  DescentPanel panel_;
  int64_t columns_;
  int64_t groups_;
  DType scale_dtype_;
  Matrix counted_codes_;          // products_ are of these.
  std::vector<Matrix> products_;  // Each segment has [kPanelRows, columns of the block].
  // One row's refit works on these.
  std::vector<double> curvature_;
  std::vector<double> residual_;
  std::vector<int64_t> active_;
  std::vector<double> factor_;
  std::vector<double> step_;
  absl::Span<const BlockCurvature> blocks_;  // They live as long as one Round.
};

}  // namespace

absl::Status ValidateRoundBlockParams(const RoundBlockParams& params, int64_t block_width) {
  const auto fail = [](absl::string_view field, auto value, absl::string_view expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("block.", field, " is ", value, "; expected ", expected));
  };
  if (params.width < 1 || block_width % params.width != 0) {
    return fail("width", params.width, absl::StrCat("a divisor of ", block_width));
  }
  if (!(params.shrinkage >= 0 && params.shrinkage <= kMostShrinkage)) {
    return fail("shrinkage", params.shrinkage, absl::StrCat("0 to ", kMostShrinkage));
  }
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

absl::StatusOr<std::vector<AffineGroups>> RoundBlock(absl::Span<const RoundInput> inputs,
                                                     absl::Span<const float> scales,
                                                     absl::Span<const BlockCurvature> blocks,
                                                     const WeightFormat& format,
                                                     const RoundBlockParams& params,
                                                     Executor& executor) {
  const int64_t columns = static_cast<int64_t>(scales.size());
  const int64_t group_size = format.GroupSize(columns);
  const int64_t run = std::min(columns, std::lcm(group_size, params.width));
  std::vector<AffineGroups> results;
  std::vector<int64_t> rows_of;
  for (const RoundInput& input : inputs) {
    results.push_back(EmptyGroups(input.weight, *input.ranges, format));
    rows_of.push_back(input.weight.out_features);
  }
  const StackedTiles tiles(rows_of, kPanelRows);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) -> absl::Status {
    const auto [index, row, count] = tiles.At(tile);
    const RoundInput& input = inputs[index];
    Matrix rows(count, columns);
    ReadScaledRows(input.weight, scales, row, count, rows.data());
    std::optional<Panel> panel;
    for (size_t begin = 0; begin < blocks.size();) {
      size_t end = begin + 1;
      while (end < blocks.size() && blocks[end].first % run != 0) ++end;
      const absl::Span<const BlockCurvature> part = blocks.subspan(begin, end - begin);
      const int64_t first = part.front().first;
      const int64_t last = part.back().first + part.back().columns();
      if (!panel || panel->columns() != last - first) panel.emplace(part, group_size, format);
      absl::Status s =
          panel->Round(part, rows.data() + first, columns, count, *input.ranges, row, params);
      if (!s.ok()) return s;
      panel->Store(row, results[index]);
      begin = end;
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return results;
}

absl::StatusOr<AffineGroups> RoundBlock(const WeightView& weight, absl::Span<const float> scales,
                                        const Ranges& ranges, const LossModel& model,
                                        const WeightFormat& format, const RoundBlockParams& params,
                                        Executor& executor) {
  if (absl::Status status = ValidateRoundBlockParams(params, model.block_width()); !status.ok()) {
    return status;
  }
  absl::StatusOr<std::vector<BlockCurvature>> blocks =
      ShrinkBlocks(model, scales, params, executor);
  if (!blocks.ok()) return blocks.status();
  const RoundInput input{weight, &ranges};
  absl::StatusOr<std::vector<AffineGroups>> groups =
      RoundBlock({&input, 1}, scales, *blocks, format, params, executor);
  if (!groups.ok()) return groups.status();
  return std::move(groups->front());
}

}  // namespace salient
