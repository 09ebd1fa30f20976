// Inner loops of block rounding, on panels of output rows.
//
// Vectorized, dispatched at run time. Element-wise kernels give the same result on every
// instruction set; sums and fused multiply-adds may differ in the last bits between sets, never
// between calls. All are thread-safe and allocate nothing.
#ifndef SALIENT_CORE_KERNELS_PANEL_KERNELS_H_
#define SALIENT_CORE_KERNELS_PANEL_KERNELS_H_

#include <cstdint>

namespace salient {

// Rows of a weight that are rounded together.
inline constexpr int64_t kPanelRows = 32;

// The affine maps of a panel, rows side by side: column j belongs to group group_of[j]; group g's
// scale and zero point of row t stand at g * kPanelRows + t.
struct PanelAffine {
  const int32_t* group_of = nullptr;
  const float* scales = nullptr;
  const float* zero_points = nullptr;
  float max_code = 15;
};

// GPTQ inside one block (arXiv:2210.17323, algorithm 1), on panels: element (column j, row t) at
// j * kPanelRows + t, 64-byte aligned. Visits columns order[0], order[1] ...; row p of `work` is
// column order[p] and is destroyed. U [n, n] with U^T U = inverse of the permuted, damped H.
// codes(order[p], t) receives code - zero_point.
void PanelGptq(const float* upper, int64_t n, const int32_t* order, const PanelAffine& affine,
               float* work, float* codes);

// Columns [begin, end) of one group in one row, and the row's affine map there.
struct RowSegment {
  int64_t begin = 0;
  int64_t end = 0;
  float scale = 1;
  float zero_point = 0;
};

// One sweep of exact coordinate descent on d H d^T over the codes (code - zero_point) [n] of one
// row: column after column is set to its best code given all others. `gradient` [n] = H d is kept
// up to date. H [n, n] is symmetric with row stride ld; `diagonal` [n] is its own. The segments
// make up all columns, in order. Returns how many codes changed.
int64_t DescendRow(const float* h, int64_t ld, int64_t n, const float* diagonal,
                   const RowSegment* segments, float max_code, float* codes, float* gradient);

// out [n] += sum over columns j in [begin, end) of (codes[j] - before[j]) H_j, H_j row j of H
// [*, n] of row stride ld; then before[j] = codes[j]. Costs as much as codes differ.
void AddChangedRows(const float* h, int64_t ld, int64_t n, int64_t begin, int64_t end,
                    const float* codes, float* before, float* out);

// y[i] += factor * x[i].
void AddScaled(const float* x, float factor, int64_t n, float* y);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_PANEL_KERNELS_H_
