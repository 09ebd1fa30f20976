#include "core/method/error_feedback.h"

#include <algorithm>
#include <vector>

#include "core/kernels/panel_kernels.h"
#include "core/tensor/matrix.h"

namespace salient {

// The kernel works on columns, so its panels stand on their side.
void FeedBackErrors(absl::Span<const BlockCurvature> blocks, const float* rows, int64_t stride,
                    DescentPanel& panel) {
  const int64_t groups = panel.groups();
  const int64_t group_size = panel.columns() / groups;
  // The maps are turned once for all blocks: a group may reach over several.
  Matrix scales(groups, kPanelRows);
  Matrix zero_points(groups, kPanelRows);
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t t = 0; t < kPanelRows; ++t) {
      scales.Row(g)[t] = panel.scales().Row(t)[g];
      zero_points.Row(g)[t] = panel.zero_points().Row(t)[g];
    }
  }
  for (size_t b = 0; b < blocks.size(); ++b) {
    const BlockCurvature& block = blocks[b];
    const int64_t n = block.columns();
    const int64_t begin = panel.block(static_cast<int64_t>(b)).begin;
    std::vector<int32_t> group_of(static_cast<size_t>(n));
    std::vector<int64_t> place(static_cast<size_t>(n));  // It is the inverse of block.order.
    for (int64_t j = 0; j < n; ++j) {
      group_of[j] = static_cast<int32_t>((begin + j) / group_size);
      place[block.order[j]] = j;
    }
    Matrix work(n, kPanelRows);
    Matrix codes(n, kPanelRows);
    // So many columns at a time make lines that are read and written whole.
    constexpr int64_t kTile = 16;
    for (int64_t first = 0; first < n; first += kTile) {
      const int64_t last = std::min(n, first + kTile);
      for (int64_t t = 0; t < panel.count(); ++t) {
        const float* row = rows + t * stride + begin;
        for (int64_t j = first; j < last; ++j) work.Row(place[j])[t] = row[j];
      }
    }
    // `work` was laid out in the order of visit, and codes come back in the order of columns.
    PanelGptq(block.upper.data(), n, block.order.data(),
              {group_of.data(), scales.data(), zero_points.data(), panel.max_code()}, work.data(),
              codes.data());
    for (int64_t first = 0; first < n; first += kTile) {
      const int64_t last = std::min(n, first + kTile);
      for (int64_t t = 0; t < kPanelRows; ++t) {
        float* row = panel.codes().Row(t) + begin;
        for (int64_t j = first; j < last; ++j) row[j] = codes.Row(j)[t];
      }
    }
  }
}

}  // namespace salient
