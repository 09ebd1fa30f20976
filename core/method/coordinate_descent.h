// Moves of rounded weights that never raise their loss d H d^T: over the codes one by one, and over
// the group scales one by one.
#ifndef SALIENT_CORE_METHOD_COORDINATE_DESCENT_H_
#define SALIENT_CORE_METHOD_COORDINATE_DESCENT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/kernels/panel_kernels.h"
#include "core/method/ranges.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace salient {

// Sweeps over the codes that are left to do after the last refit of the scales.
inline int LastSweeps(int descent_sweeps, int refits) {
  return refits > 0 ? std::min(1, descent_sweeps) : descent_sweeps;
}

// One diagonal block of H, which is 0 outside of them. Borrows.
struct DescentBlock {
  int64_t begin = 0;                // It is a column of the panel.
  MatrixView h;                     // It is [n, n], symmetric.
  const float* diagonal = nullptr;  // It is that of h.

  int64_t columns() const { return h.cols; }
};

// Up to `capacity` rows of a weight over consecutive columns that whole groups make up, with their
// codes, affine maps and the gradient of their loss. Row t of a matrix here is row t of the panel;
// columns are relative to it. Not thread-safe; a thread has its own.
class DescentPanel {
 public:
  // Columns of one block and one group.
  struct Segment {
    int64_t block = 0;
    int64_t group = 0;
    int64_t begin = 0;
    int64_t end = 0;
  };

  DescentPanel(absl::Span<const DescentBlock> blocks, int64_t group_size,
               const WeightFormat& format, int64_t capacity = kPanelRows);

  int64_t columns() const { return columns_; }
  int64_t groups() const { return groups_; }
  int64_t capacity() const { return codes_.rows(); }
  int64_t count() const { return count_; }
  float max_code() const { return max_code_; }
  absl::Span<const Segment> segments() const { return segments_; }
  // The first segment of a block; of one past the last, the end.
  size_t FirstSegment(int64_t block) const { return first_segment_[static_cast<size_t>(block)]; }
  const DescentBlock& block(int64_t index) const { return blocks_[static_cast<size_t>(index)]; }

  // Code less zero point, [capacity, columns].
  Matrix& codes() { return codes_; }
  Matrix& gradient() { return gradient_; }  // Returns d H.
  // [capacity, groups]. Scales are representable in format.scale_dtype.
  Matrix& scales() { return scales_; }
  Matrix& zero_points() { return zero_points_; }

  // Begins with `count` rows on the maps of `ranges`: the panel's row 0 is row `weight_row` there,
  // its group 0 `first_group`. `blocks` are of the shape that the panel was made for. Rows from
  // `count` on have scale 1 and zero point 0.
  void Begin(absl::Span<const DescentBlock> blocks, const Ranges& ranges, int64_t weight_row,
             int64_t first_group, int64_t count);

  // The gradient of the codes there are, for weights of which row t begins at rows + t * stride.
  // INTERNAL from the products.
  absl::Status Measure(const float* rows, int64_t stride);

  // Up to `sweeps` sweeps over the codes of every block, each set to the one with the least loss
  // given all others. Keeps the gradient up to date.
  void DescendCodes(int sweeps);

  // One sweep over the groups: each scale is set to the one with the least loss given all else, as
  // its dtype rounds it, where that lowers the loss. Keeps the gradient up to date. For panels of
  // one block. INTERNAL from the products.
  absl::Status DescendScales();

  // Writes codes and scales into the rows from `weight_row` on, from the column and group that the
  // panel begins at.
  void Store(int64_t weight_row, int64_t first_column, AffineGroups& result) const;

  // Bytes a panel of one block holds.
  static int64_t MemoryBytes(int64_t columns, int64_t groups, int64_t capacity) {
    return capacity * (4 * columns + 2 * groups) * static_cast<int64_t>(sizeof(float));
  }

 private:
  int64_t columns_;
  int64_t groups_;
  float max_code_;
  DType scale_dtype_;
  std::vector<DescentBlock> blocks_;
  std::vector<Segment> segments_;
  std::vector<size_t> first_segment_;  // Each block has one, and the end another.
  Matrix codes_;
  Matrix errors_;
  Matrix gradient_;
  Matrix scales_;
  Matrix zero_points_;
  int64_t count_ = 0;
};

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_COORDINATE_DESCENT_H_
