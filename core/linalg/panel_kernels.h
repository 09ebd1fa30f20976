// Inner loops of block rounding, on panels of output rows.
//
// Vectorized, dispatched at run time. Element-wise kernels give the same result on every
// instruction set; sums and fused multiply-adds may differ in the last bits between sets, never
// between calls. All are thread-safe and allocate nothing.
#ifndef SALIENT_CORE_LINALG_PANEL_KERNELS_H_
#define SALIENT_CORE_LINALG_PANEL_KERNELS_H_

#include <cstdint>

namespace salient {

// Panels: kPanelRows output rows side by side, element (column j, row t) at j * kPanelRows + t;
// 64-byte aligned, as is every pointer to kPanelRows floats.
inline constexpr int64_t kPanelRows = 16;

// y = H[:, begin:end] x[begin:end] for a symmetric H [n, n] of row stride ld; x, y [n] panels.
void PanelMultiply(const float* h, int64_t ld, int64_t n, int64_t begin, int64_t end,
                   const float* x, float* y);

// out[t] = sum over columns j in [begin, end) of a(j, t) b(j, t).
void PanelDot(const float* a, const float* b, int64_t begin, int64_t end, float* out);

// The affine maps of a panel: column j belongs to group group_of[j]; group g's scale and zero
// point of row t stand at g * kPanelRows + t.
struct PanelAffine {
  const int32_t* group_of = nullptr;
  const float* scales = nullptr;
  const float* zero_points = nullptr;
  float max_code = 15;
};

// GPTQ inside one block (arXiv:2210.17323, algorithm 1 without lazy batches): visits columns
// order[0], order[1] ...; row p of `work` is column order[p] and is destroyed. U [n, n] with
// U^T U = inverse of the permuted, damped H. codes(order[p], t) receives code - zero_point.
void PanelGptq(const float* upper, int64_t n, const int32_t* order, const PanelAffine& affine,
               float* work, float* codes);

// One sweep of exact coordinate descent on tr(D H D^T) over the codes: column after column is
// set to its best code given all others. `gradient` = H D is kept up to date.
void PanelDescent(const float* h, int64_t ld, int64_t n, const PanelAffine& affine, float* codes,
                  float* gradient);

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_PANEL_KERNELS_H_
