// Inner loops of the searches over scales and ranges: the rounding errors of many candidates. What
// they cost: search_sum_kernels.h. They decide between candidates and are never written anywhere,
// so a code near a tie may fall on the other side than in round_kernels, and a tie of bfloat16 on
// either.
//
// Vectorized, dispatched at run time; sums and fused multiply-adds may differ in the last bits
// between instruction sets, never between calls. All are thread-safe and allocate nothing.
#ifndef SALIENT_CORE_KERNELS_SEARCH_KERNELS_H_
#define SALIENT_CORE_KERNELS_SEARCH_KERNELS_H_

#include <cstdint>

#include "core/tensor/affine_groups.h"

namespace salient {

// lo[g], hi[g]: smallest and largest of w[j] * s[j] over group g, for w, s [groups * group_size].
void ScaledMinMax(const float* w, const float* s, int64_t groups, int64_t group_size, float* lo,
                  float* hi);

// This is the least F16 above 0; all below 2^-14 are multiples of it.
inline constexpr float kLeastF16 = 0x1p-24f;

// The affine maps of n ranges with both ends multiplied by `shrink`: bit for bit FitAffine of
// core/method/ranges.h.
void FitAffines(const float* lo, const float* hi, float shrink, int64_t n,
                const WeightFormat& format, float* scales, float* zero_points);

// Some columns of some rows under affine maps. Row t of the panel takes row t / repeats of w and
// row t of the maps; column j belongs to group (begin + j) / group_size of its row.
struct RoundingPanel {
  int64_t rows = 0;
  int64_t columns = 0;
  const float* w = nullptr;  // Its rows are w_stride apart.
  int64_t w_stride = 0;
  int64_t repeats = 1;
  const float* s = nullptr;          // [columns]: w is multiplied by s before it is rounded.
  const float* inverse_s = nullptr;  // [columns]: the error of w is multiplied by 1 / s.
  const float* scales = nullptr;     // Their rows are maps_stride apart.
  const float* zero_points = nullptr;
  int64_t maps_stride = 0;
  int64_t begin = 0;
  int64_t group_size = 0;
  float max_code = 15;
  const float* diagonal = nullptr;  // It has an entry a column.
  const float* mean = nullptr;      // It has an entry a column.
};

// The errors d = (w' - w s) / s of round-to-nearest. squares[t] += sum_j diagonal[j] d[t][j]^2 and
// shifts[t] += sum_j mean[j] d[t][j]. Writes d as bfloat16 [rows, columns] unless `errors` is null.
void RoundPanel(const RoundingPanel& panel, uint16_t* errors, double* squares, double* shifts);

// bits[i] = values[i] * factor as bfloat16, to nearest, ties to even; for finite values.
void NarrowToBf16(const float* values, int64_t n, float factor, uint16_t* bits);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_SEARCH_KERNELS_H_
