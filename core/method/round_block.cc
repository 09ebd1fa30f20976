#include "core/method/round_block.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/linalg/cholesky.h"
#include "core/linalg/gemm.h"
#include "core/linalg/panel_kernels.h"
#include "core/linalg/sum_kernels.h"
#include "core/linalg/tiles.h"
#include "core/method/round_nearest.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

// Columns of one block and one group, relative to their run.
struct Segment {
  int64_t block = 0;
  int64_t group = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

// Up to kPanelRows rows of a weight, over the columns of consecutive blocks that share groups: a
// run, the shortest in which no group crosses an end. Matrices are [kPanelRows, columns of a run].
class Panel {
 public:
  Panel(absl::Span<const BlockCurvature> run, int64_t group_size, const WeightFormat& format)
      : columns_(run.back().first + run.back().columns() - run.front().first),
        groups_(columns_ / group_size),
        max_code_(static_cast<float>(format.MaxCode())),
        scale_dtype_(format.scale_dtype),
        codes_(kPanelRows, columns_),
        counted_codes_(kPanelRows, columns_),
        errors_(kPanelRows, columns_),
        gradient_(kPanelRows, columns_),
        scales_(kPanelRows, groups_),
        zero_points_(kPanelRows, groups_),
        curvature_(static_cast<size_t>(groups_ * groups_)),
        residual_(static_cast<size_t>(groups_)) {
    for (size_t b = 0; b < run.size(); ++b) {
      const int64_t begin = run[b].first - run.front().first;
      const int64_t end = begin + run[b].columns();
      first_segment_.push_back(segments_.size());
      for (int64_t at = begin; at < end;) {
        const int64_t group = at / group_size;
        const int64_t stop = std::min(end, (group + 1) * group_size);
        segments_.push_back({static_cast<int64_t>(b), group, at, stop});
        products_.emplace_back(kPanelRows, run[b].columns());
        at = stop;
      }
    }
    first_segment_.push_back(segments_.size());
  }

  int64_t columns() const { return columns_; }

  // Rounds `count` rows, row t of which begins at rows + t * stride in the run's first column.
  // `blocks` are a run of the shape this panel was made for.
  absl::Status Round(absl::Span<const BlockCurvature> blocks, const float* rows, int64_t stride,
                     int64_t count, const Ranges& ranges, int64_t weight_row,
                     const RoundBlockParams& params) {
    blocks_ = blocks;
    count_ = count;
    const int64_t first_group = FirstGroup();
    for (int64_t t = 0; t < kPanelRows; ++t) {
      for (int64_t g = 0; g < groups_; ++g) {
        const int64_t at = (weight_row + t) * ranges.groups + first_group + g;
        scales_.Row(t)[g] = t < count ? ranges.scales[at] : 1.0f;
        zero_points_.Row(t)[g] = t < count ? ranges.zero_points[at] : 0.0f;
      }
    }
    FeedBackErrors(rows, stride);
    if (params.descent_sweeps == 0 && params.refits == 0) return absl::OkStatus();
    if (absl::Status status = Measure(rows, stride); !status.ok()) return status;
    for (int r = 0; r < params.refits; ++r) {
      Descend(params.descent_sweeps);
      if (absl::Status status = Refit(r == 0); !status.ok()) return status;
    }
    if (params.descent_sweeps > 0) Descend(1);
    return absl::OkStatus();
  }

  void Store(int64_t weight_row, AffineGroups& result) const {
    const int64_t first_group = FirstGroup();
    for (int64_t t = 0; t < count_; ++t) {
      uint8_t* codes =
          result.codes.data() + (weight_row + t) * result.in_features + blocks_.front().first;
      for (const Segment& segment : segments_) {
        const float zero = zero_points_.Row(t)[segment.group];
        for (int64_t j = segment.begin; j < segment.end; ++j) {
          codes[j] = static_cast<uint8_t>(static_cast<int32_t>(codes_.Row(t)[j] + zero));
        }
      }
      std::copy_n(scales_.Row(t), groups_,
                  result.scales.data() + (weight_row + t) * result.Groups() + first_group);
    }
  }

 private:
  int64_t FirstGroup() const { return blocks_.front().first / (columns_ / groups_); }
  int64_t Begin(size_t block) const { return blocks_[block].first - blocks_.front().first; }

  // Error feedback works on columns, so its panels stand on their side.
  void FeedBackErrors(const float* rows, int64_t stride) {
    Matrix scales(groups_, kPanelRows);
    Matrix zero_points(groups_, kPanelRows);
    for (int64_t g = 0; g < groups_; ++g) {
      for (int64_t t = 0; t < kPanelRows; ++t) {
        scales.Row(g)[t] = scales_.Row(t)[g];
        zero_points.Row(g)[t] = zero_points_.Row(t)[g];
      }
    }
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const BlockCurvature& block = blocks_[b];
      const int64_t n = block.columns();
      const int64_t begin = Begin(b);
      std::vector<int32_t> group_of(static_cast<size_t>(n));
      std::vector<int64_t> place(static_cast<size_t>(n));  // the inverse of block.order
      for (int64_t j = 0; j < n; ++j) {
        group_of[j] = static_cast<int32_t>((begin + j) / (columns_ / groups_));
        place[block.order[j]] = j;
      }
      Matrix work(n, kPanelRows);
      Matrix codes(n, kPanelRows);
      constexpr int64_t kTile = 16;  // columns at a time, so that lines are read and written whole
      for (int64_t first = 0; first < n; first += kTile) {
        const int64_t last = std::min(n, first + kTile);
        for (int64_t t = 0; t < count_; ++t) {
          const float* row = rows + t * stride + begin;
          for (int64_t j = first; j < last; ++j) work.Row(place[j])[t] = row[j];
        }
      }
      PanelGptq(block.upper.data(), n, block.order.data(),
                {group_of.data(), scales.data(), zero_points.data(), max_code_}, work.data(),
                codes.data());
      for (int64_t first = 0; first < n; first += kTile) {
        const int64_t last = std::min(n, first + kTile);
        for (int64_t t = 0; t < kPanelRows; ++t) {
          float* row = codes_.Row(t) + begin;
          for (int64_t j = first; j < last; ++j) row[j] = codes.Row(j)[t];
        }
      }
    }
  }

  // gradient_ = (scale * (code - zero_point) - w) H.
  absl::Status Measure(const float* rows, int64_t stride) {
    for (int64_t t = 0; t < count_; ++t) {
      for (const Segment& segment : segments_) {
        OffsetErrors(rows + t * stride + segment.begin, codes_.Row(t) + segment.begin,
                     scales_.Row(t)[segment.group], segment.end - segment.begin,
                     errors_.Row(t) + segment.begin);
      }
    }
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const int64_t n = blocks_[b].columns();
      absl::Status status =
          Gemm(Op::kPlain, Op::kPlain, kPanelRows, n, n, errors_.data() + Begin(b), columns_,
               blocks_[b].h.data(), n, 0.0f, gradient_.data() + Begin(b), columns_);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  void Descend(int sweeps) {
    std::vector<RowSegment> maps;
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const BlockCurvature& block = blocks_[b];
      const int64_t begin = Begin(b);
      std::array<bool, kPanelRows> settled = {};  // a sweep that changes nothing is the last
      for (int s = 0; s < sweeps; ++s) {
        for (int64_t t = 0; t < count_; ++t) {
          if (settled[t]) continue;
          maps.clear();
          for (size_t i = first_segment_[b]; i < first_segment_[b + 1]; ++i) {
            const Segment& segment = segments_[i];
            maps.push_back({segment.begin - begin, segment.end - begin,
                            scales_.Row(t)[segment.group], zero_points_.Row(t)[segment.group]});
          }
          settled[t] = DescendRow(block.h.data(), block.columns(), block.columns(),
                                  block.diagonal.data(), maps.data(), max_code_,
                                  codes_.Row(t) + begin, gradient_.Row(t) + begin) == 0;
        }
      }
    }
  }

  // Least squares in the scales x of each row: minimises (C x - w) H (C x - w)^T, where column g
  // of C holds the offsets code - zero_point of group g. products_ are C_g H of each segment.
  absl::Status Refit(bool first) {
    for (size_t i = 0; i < segments_.size(); ++i) {
      const Segment& segment = segments_[i];
      const BlockCurvature& block = blocks_[segment.block];
      const int64_t n = block.columns();
      const int64_t begin = Begin(segment.block);
      if (first) {
        absl::Status status =
            Gemm(Op::kPlain, Op::kPlain, kPanelRows, n, segment.end - segment.begin,
                 codes_.data() + segment.begin, columns_, block.h.Row(segment.begin - begin), n,
                 0.0f, products_[i].data(), n);
        if (!status.ok()) return status;
        continue;
      }
      for (int64_t t = 0; t < count_; ++t) {
        AddChangedRows(block.h.data(), n, n, segment.begin - begin, segment.end - begin,
                       codes_.Row(t) + begin, counted_codes_.Row(t) + begin, products_[i].Row(t));
      }
    }
    if (first) std::copy_n(codes_.data(), kPanelRows * columns_, counted_codes_.data());
    for (int64_t t = 0; t < count_; ++t) RefitRow(t);
    return absl::OkStatus();
  }

  // With r = -C H (C x - w)^T and A = C H C^T the minimum is x + A^-1 r; a step y lowers the loss
  // by 2 r y - y A y.
  void RefitRow(int64_t t) {
    std::fill(curvature_.begin(), curvature_.end(), 0.0);
    std::fill(residual_.begin(), residual_.end(), 0.0);
    for (size_t i = 0; i < segments_.size(); ++i) {
      const Segment& segment = segments_[i];
      const float* product = products_[i].Row(t) - Begin(segment.block);
      residual_[segment.group] -=
          Dot(codes_.Row(t) + segment.begin, gradient_.Row(t) + segment.begin,
              segment.end - segment.begin);
      for (size_t k = i; k < first_segment_[segment.block + 1]; ++k) {
        const Segment& other = segments_[k];
        const double sum =
            Dot(codes_.Row(t) + other.begin, product + other.begin, other.end - other.begin);
        curvature_[segment.group * groups_ + other.group] += sum;
        if (k != i) curvature_[other.group * groups_ + segment.group] += sum;
      }
    }
    // Groups whose codes are all zero points have no say and keep their scale.
    active_.clear();
    for (int64_t g = 0; g < groups_; ++g) {
      if (curvature_[g * groups_ + g] > 0) active_.push_back(g);
    }
    factor_.clear();
    step_.clear();
    for (int64_t g : active_) {
      step_.push_back(residual_[g]);
      for (int64_t h : active_) factor_.push_back(curvature_[g * groups_ + h]);
    }
    if (!SolveInPlace(absl::MakeSpan(factor_), absl::MakeSpan(step_)).ok()) return;
    for (size_t i = 0; i < active_.size(); ++i) {
      const float old = scales_.Row(t)[active_[i]];
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
    std::fill(residual_.begin(), residual_.end(), 0.0);  // from here on the step of every group
    for (size_t i = 0; i < active_.size(); ++i) {
      residual_[active_[i]] = step_[i];
      float& scale = scales_.Row(t)[active_[i]];
      scale = RoundToDType(scale_dtype_, static_cast<float>(scale + step_[i]));
    }
    for (size_t i = 0; i < segments_.size(); ++i) {
      const Segment& segment = segments_[i];
      if (residual_[segment.group] == 0) continue;
      AddScaled(products_[i].Row(t), static_cast<float>(residual_[segment.group]),
                products_[i].cols(), gradient_.Row(t) + Begin(segment.block));
    }
  }

  int64_t columns_;
  int64_t groups_;
  float max_code_;
  DType scale_dtype_;
  Matrix codes_;          // code - zero_point
  Matrix counted_codes_;  // those that products_ are of
  Matrix errors_;
  Matrix gradient_;     // (scale * code - w) H
  Matrix scales_;       // [kPanelRows, groups]
  Matrix zero_points_;  // [kPanelRows, groups]
  std::vector<Segment> segments_;
  std::vector<size_t> first_segment_;  // of each block, and the end
  std::vector<Matrix> products_;       // [kPanelRows, columns of the block] of each segment
  // Of one row's refit.
  std::vector<double> curvature_;
  std::vector<double> residual_;
  std::vector<int64_t> active_;
  std::vector<double> factor_;
  std::vector<double> step_;
  // Of one Round.
  absl::Span<const BlockCurvature> blocks_;
  int64_t count_ = 0;
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
