#include "core/method/coordinate_descent.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/error_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/linalg/gemm.h"

namespace salient {

DescentPanel::DescentPanel(absl::Span<const DescentBlock> blocks, int64_t group_size,
                           const WeightFormat& format, int64_t capacity)
    : columns_(blocks.back().begin + blocks.back().columns()),
      groups_(columns_ / group_size),
      max_code_(static_cast<float>(format.MaxCode())),
      scale_dtype_(format.scale_dtype),
      blocks_(blocks.begin(), blocks.end()),
      codes_(capacity, columns_),
      errors_(capacity, columns_),
      gradient_(capacity, columns_),
      scales_(capacity, groups_),
      zero_points_(capacity, groups_) {
  // A segment is where a block and a group overlap: one curvature and one scale.
  for (size_t b = 0; b < blocks.size(); ++b) {
    const int64_t end = blocks[b].begin + blocks[b].columns();
    first_segment_.push_back(segments_.size());
    for (int64_t at = blocks[b].begin; at < end;) {
      const int64_t group = at / group_size;
      const int64_t stop = std::min(end, (group + 1) * group_size);
      segments_.push_back({static_cast<int64_t>(b), group, at, stop});
      at = stop;
    }
  }
  first_segment_.push_back(segments_.size());
}

void DescentPanel::Begin(absl::Span<const DescentBlock> blocks, const Ranges& ranges,
                         int64_t weight_row, int64_t first_group, int64_t count) {
  blocks_.assign(blocks.begin(), blocks.end());
  count_ = count;
  for (int64_t t = 0; t < capacity(); ++t) {
    for (int64_t g = 0; g < groups_; ++g) {
      const int64_t at = (weight_row + t) * ranges.groups + first_group + g;
      // Rows beyond the last have a map that rounds zeros to zeros, so that kernels need not know
      // of them.
      scales_.Row(t)[g] = t < count ? ranges.scales[at] : 1.0f;
      zero_points_.Row(t)[g] = t < count ? ranges.zero_points[at] : 0.0f;
    }
  }
}

absl::Status DescentPanel::Measure(const float* rows, int64_t stride) {
  for (int64_t t = 0; t < count_; ++t) {
    for (const Segment& segment : segments_) {
      OffsetErrors(rows + t * stride + segment.begin, codes_.Row(t) + segment.begin,
                   scales_.Row(t)[segment.group], segment.end - segment.begin,
                   errors_.Row(t) + segment.begin);
    }
  }
  for (const DescentBlock& block : blocks_) {
    const int64_t n = block.columns();
    absl::Status status =
        Gemm(Op::kPlain, Op::kPlain, capacity(), n, n, errors_.data() + block.begin, columns_,
             block.h.data, block.h.stride, 0.0f, gradient_.data() + block.begin, columns_);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void DescentPanel::DescendCodes(int sweeps) {
  std::vector<RowSegment> maps;
  for (size_t b = 0; b < blocks_.size(); ++b) {
    const DescentBlock& block = blocks_[b];
    // A sweep that changes nothing is the last.
    std::vector<bool> settled(static_cast<size_t>(count_));
    for (int s = 0; s < sweeps; ++s) {
      for (int64_t t = 0; t < count_; ++t) {
        if (settled[t]) continue;
        maps.clear();
        for (size_t i = first_segment_[b]; i < first_segment_[b + 1]; ++i) {
          const Segment& segment = segments_[i];
          maps.push_back({segment.begin - block.begin, segment.end - block.begin,
                          scales_.Row(t)[segment.group], zero_points_.Row(t)[segment.group]});
        }
        // The loss has no products between blocks, so each block is settled by itself.
        settled[t] =
            DescendRow(block.h.data, block.h.stride, block.columns(), block.diagonal, maps.data(),
                       max_code_, codes_.Row(t) + block.begin, gradient_.Row(t) + block.begin) == 0;
      }
    }
  }
}

// With C the codes of the group and r = -C H d^T, a = C H C^T, the minimum is at scale + r / a; a
// step y lowers the loss by 2 r y - a y^2.
absl::Status DescentPanel::DescendScales() {
  const DescentBlock& block = blocks_.front();
  const int64_t n = block.columns();
  Matrix product = Matrix::Unset(capacity(), n);  // It is C H.
  for (const Segment& segment : segments_) {
    const int64_t length = segment.end - segment.begin;
    absl::Status status =
        Gemm(Op::kPlain, Op::kPlain, capacity(), n, length, codes_.data() + segment.begin, columns_,
             block.h.Row(segment.begin), block.h.stride, 0.0f, product.data(), n);
    if (!status.ok()) return status;
    for (int64_t t = 0; t < count_; ++t) {
      const float* codes = codes_.Row(t) + segment.begin;
      const double a = Dot(codes, product.Row(t) + segment.begin, length);
      if (!(a > 0)) continue;  // All codes are zero points.
      const double r = -Dot(codes, gradient_.Row(t) + segment.begin, length);
      float& scale = scales_.Row(t)[segment.group];
      const float best = RoundToDType(scale_dtype_, static_cast<float>(scale + r / a));
      if (!(best > 0) || !std::isfinite(best)) continue;
      const double step = double{best} - scale;
      if (!(step * (2 * r - a * step) > 0)) continue;
      // The gradient follows at once, so that the next group meets the new errors.
      scale = best;
      AddScaled(product.Row(t), static_cast<float>(step), n, gradient_.Row(t));
    }
  }
  return absl::OkStatus();
}

void DescentPanel::Store(int64_t weight_row, int64_t first_column, AffineGroups& result) const {
  const int64_t first_group = first_column / (columns_ / groups_);
  for (int64_t t = 0; t < count_; ++t) {
    uint8_t* codes = result.codes.data() + (weight_row + t) * result.in_features + first_column;
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

}  // namespace salient
