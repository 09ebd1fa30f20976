#include "core/method/round_block.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/linalg/cholesky.h"
#include "core/linalg/panel_kernels.h"
#include "core/linalg/tiles.h"
#include "core/method/block_curvature.h"
#include "core/method/round_nearest.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

// Up to kPanelRows rows of a weight, over the columns of consecutive blocks that share groups:
// [begin, end) is the shortest run in which no group crosses an end. Element (column j, row t)
// stands at (j - begin) * kPanelRows + t.
class Panel {
 public:
  Panel(absl::Span<const BlockCurvature> blocks, int64_t group_size, const WeightFormat& format)
      : blocks_(blocks),
        begin_(blocks.front().first),
        columns_(blocks.back().first + blocks.back().columns() - begin_),
        max_code_(static_cast<float>(format.MaxCode())),
        scale_dtype_(format.scale_dtype),
        weights_(columns_, kPanelRows),
        codes_(columns_, kPanelRows),
        errors_(columns_, kPanelRows),
        gradient_(columns_, kPanelRows),
        product_(columns_, kPanelRows),
        scales_(columns_ / group_size, kPanelRows),
        zero_points_(scales_.rows(), kPanelRows),
        group_of_(static_cast<size_t>(columns_)) {
    for (int64_t j = 0; j < columns_; ++j) group_of_[j] = static_cast<int32_t>(j / group_size);
  }

  // Takes rows [first, first + count) of `rows` [*, in_features]; missing rows are zeros.
  void Load(const Matrix& rows, int64_t first, int64_t count, const Ranges& ranges,
            int64_t weight_row) {
    const int64_t first_group = begin_ / (columns_ / scales_.rows());
    for (int64_t t = 0; t < kPanelRows; ++t) {
      for (int64_t j = 0; j < columns_; ++j) {
        weights_.Row(j)[t] = t < count ? rows.Row(first + t)[begin_ + j] : 0.0f;
      }
      for (int64_t g = 0; g < scales_.rows(); ++g) {
        const int64_t at = (weight_row + t) * ranges.groups + first_group + g;
        scales_.Row(g)[t] = t < count ? ranges.scales[at] : 1.0f;
        zero_points_.Row(g)[t] = t < count ? ranges.zero_points[at] : 0.0f;
      }
    }
  }

  void Round(const RoundBlockParams& params) {
    FeedBackErrors();
    Measure();
    for (int r = 0; r < params.refits; ++r) {
      Descend(params.descent_sweeps);
      Refit();
    }
    if (params.descent_sweeps > 0) Descend(1);
  }

  void Store(int64_t count, int64_t weight_row, AffineGroups& result) const {
    const int64_t first_group = begin_ / (columns_ / scales_.rows());
    for (int64_t t = 0; t < count; ++t) {
      uint8_t* codes = result.codes.data() + (weight_row + t) * result.in_features + begin_;
      for (int64_t j = 0; j < columns_; ++j) {
        const float code = codes_.Row(j)[t] + zero_points_.Row(group_of_[j])[t];
        codes[j] = static_cast<uint8_t>(code);
      }
      float* scales = result.scales.data() + (weight_row + t) * result.Groups() + first_group;
      for (int64_t g = 0; g < scales_.rows(); ++g) scales[g] = scales_.Row(g)[t];
    }
  }

 private:
  PanelAffine AffineOf(const BlockCurvature& block) const {
    return {group_of_.data() + (block.first - begin_), scales_.data(), zero_points_.data(),
            max_code_};
  }
  template <class M>
  static auto* At(M& panel, int64_t column) {
    return panel.data() + column * kPanelRows;
  }

  void FeedBackErrors() {
    Matrix work(columns_, kPanelRows);
    for (const BlockCurvature& block : blocks_) {
      const int64_t at = block.first - begin_;
      for (int64_t p = 0; p < block.columns(); ++p) {
        std::memcpy(work.Row(p), weights_.Row(at + block.order[p]), kPanelRows * sizeof(float));
      }
      PanelGptq(block.upper.data(), block.columns(), block.order.data(), AffineOf(block),
                work.data(), At(codes_, at));
    }
  }

  // errors_ = scale * (code - zero_point) - w and gradient_ = H errors_.
  void Measure() {
    for (int64_t j = 0; j < columns_; ++j) {
      const float* scale = scales_.Row(group_of_[j]);
      for (int64_t t = 0; t < kPanelRows; ++t) {
        errors_.Row(j)[t] = scale[t] * codes_.Row(j)[t] - weights_.Row(j)[t];
      }
    }
    for (const BlockCurvature& block : blocks_) {
      const int64_t at = block.first - begin_;
      PanelMultiply(block.h.data(), block.columns(), block.columns(), 0, block.columns(),
                    At(errors_, at), At(gradient_, at));
    }
  }

  void Descend(int sweeps) {
    for (int s = 0; s < sweeps; ++s) {
      for (const BlockCurvature& block : blocks_) {
        const int64_t at = block.first - begin_;
        PanelDescent(block.h.data(), block.columns(), block.columns(), AffineOf(block),
                     At(codes_, at), At(gradient_, at));
      }
    }
    // The descent carries the gradient along with rounding errors; start the next step clean.
    Measure();
  }

  // Least squares in the scales x of one row: minimise (C x - w) H (C x - w)^T, where column g of
  // C holds the offsets code - zero_point of group g.
  void Refit() {
    const int64_t groups = scales_.rows();
    std::vector<float> curvature(static_cast<size_t>(groups * groups * kPanelRows), 0.0f);
    std::vector<float> target(static_cast<size_t>(groups * kPanelRows), 0.0f);
    for (const BlockCurvature& block : blocks_) AddNormalEquations(block, curvature, target);

    alignas(64) float before[kPanelRows] = {};
    alignas(64) float after[kPanelRows] = {};
    PanelDot(errors_.data(), gradient_.data(), 0, columns_, before);
    Matrix old(groups, kPanelRows);
    std::memcpy(old.data(), scales_.data(),
                static_cast<size_t>(groups * kPanelRows) * sizeof(float));
    for (int64_t t = 0; t < kPanelRows; ++t) SolveRow(curvature, target, t);
    Measure();
    PanelDot(errors_.data(), gradient_.data(), 0, columns_, after);
    bool undone = false;
    for (int64_t t = 0; t < kPanelRows; ++t) {
      if (after[t] < before[t]) continue;
      for (int64_t g = 0; g < groups; ++g) scales_.Row(g)[t] = old.Row(g)[t];
      undone = true;
    }
    if (undone) Measure();
  }

  void AddNormalEquations(const BlockCurvature& block, std::vector<float>& curvature,
                          std::vector<float>& target) {
    const int64_t at = block.first - begin_;
    const int64_t n = block.columns();
    const int64_t groups = scales_.rows();
    float* product = At(product_, at);
    for (int64_t begin = 0; begin < n;) {  // runs of columns of one group
      const int64_t g = group_of_[at + begin];
      int64_t end = begin;
      while (end < n && group_of_[at + end] == g) ++end;
      PanelMultiply(block.h.data(), n, n, begin, end, At(codes_, at), product);
      alignas(64) float dot[kPanelRows];
      PanelDot(At(weights_, at), product, 0, n, dot);
      for (int64_t t = 0; t < kPanelRows; ++t) target[g * kPanelRows + t] += dot[t];
      for (int64_t other = 0; other < n;) {
        const int64_t h = group_of_[at + other];
        int64_t stop = other;
        while (stop < n && group_of_[at + stop] == h) ++stop;
        PanelDot(At(codes_, at), product, other, stop, dot);
        for (int64_t t = 0; t < kPanelRows; ++t) {
          curvature[(g * groups + h) * kPanelRows + t] += dot[t];
        }
        other = stop;
      }
      begin = end;
    }
  }

  // Sets row t's scales to the solution, or leaves them when it is of no use.
  void SolveRow(const std::vector<float>& curvature, const std::vector<float>& target, int64_t t) {
    const int64_t groups = scales_.rows();
    // Groups whose codes are all zero points have no say and keep their scale.
    std::vector<int64_t> active;
    for (int64_t g = 0; g < groups; ++g) {
      if (curvature[(g * groups + g) * kPanelRows + t] > 0) active.push_back(g);
    }
    const size_t n = active.size();
    std::vector<double> a(n * n);
    std::vector<double> b(n);
    for (size_t i = 0; i < n; ++i) {
      b[i] = target[active[i] * kPanelRows + t];
      for (size_t j = 0; j < n; ++j) {
        a[i * n + j] = 0.5 * (curvature[(active[i] * groups + active[j]) * kPanelRows + t] +
                              curvature[(active[j] * groups + active[i]) * kPanelRows + t]);
      }
    }
    absl::StatusOr<std::vector<double>> x = SolvePositiveDefinite(a, b);
    if (!x.ok()) return;
    for (double& value : *x) {
      value = RoundToDType(scale_dtype_, static_cast<float>(value));
      if (!(value > 0) || !std::isfinite(value)) return;
    }
    for (size_t i = 0; i < n; ++i) scales_.Row(active[i])[t] = static_cast<float>((*x)[i]);
  }

  absl::Span<const BlockCurvature> blocks_;
  int64_t begin_;
  int64_t columns_;
  float max_code_;
  DType scale_dtype_;
  Matrix weights_;  // w s
  Matrix codes_;    // code - zero_point
  Matrix errors_;
  Matrix gradient_;  // H errors_
  Matrix product_;
  Matrix scales_;       // [groups, kPanelRows]
  Matrix zero_points_;  // [groups, kPanelRows]
  std::vector<int32_t> group_of_;
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
  if (!(params.shrinkage >= 0 && params.shrinkage <= 1)) {
    return fail("shrinkage", params.shrinkage, "0 to 1");
  }
  if (!(params.damping >= 0 && params.damping <= 10)) {
    return fail("damping", params.damping, "0 to 10");
  }
  if (params.descent_sweeps < 0 || params.descent_sweeps > 64) {
    return fail("descent_sweeps", params.descent_sweeps, "0 to 64");
  }
  if (params.refits < 0 || params.refits > 16) return fail("refits", params.refits, "0 to 16");
  return absl::OkStatus();
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

  const int64_t columns = weight.in_features;
  const int64_t group_size = format.GroupSize(columns);
  const int64_t run = std::min(columns, std::lcm(group_size, params.width));
  AffineGroups result = EmptyGroups(weight, ranges, format);
  const RowTiles tiles(weight.out_features, kPanelRows);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    const int64_t row = tiles.First(tile);
    const int64_t count = tiles.Count(tile);
    Matrix rows(count, columns);
    ReadScaledRows(weight, scales, row, count, rows.data());
    const absl::Span<const BlockCurvature> all(*blocks);
    for (size_t begin = 0; begin < all.size();) {
      size_t end = begin + 1;
      while (end < all.size() && all[end].first % run != 0) ++end;
      Panel panel(all.subspan(begin, end - begin), group_size, format);
      panel.Load(rows, 0, count, ranges, row);
      panel.Round(params);
      panel.Store(count, row, result);
      begin = end;
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return result;
}

}  // namespace salient
