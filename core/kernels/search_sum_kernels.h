// Sums that the searches over scales and ranges decide by: over the rounding errors of candidates
// (search_kernels.h) and over weights.
//
// Vectorized, dispatched at run time; sums and fused multiply-adds may differ in the last bits
// between instruction sets, never between calls. All are thread-safe and allocate nothing.
#ifndef SALIENT_CORE_KERNELS_SEARCH_SUM_KERNELS_H_
#define SALIENT_CORE_KERNELS_SEARCH_SUM_KERNELS_H_

#include <cstdint>

namespace salient {

// sums[t] += sum_j a[t][j] b[t][j] for f32 a of stride lda and bfloat16 b of stride ldb.
void AddRowDots(const float* a, int64_t lda, const uint16_t* b, int64_t ldb, int64_t rows,
                int64_t columns, double* sums);

// sums[k] += sum_t a[t][k]^2 for a [rows, columns] and, unless `total` is null, total += a.
void AddColumnSquares(const float* a, int64_t rows, int64_t columns, float* total, double* sums);

// sums[j] += |w[j]| / (the largest |w| of its group + epsilon); a group of zeros adds nothing.
void AddRelativeMagnitudes(const float* w, int64_t groups, int64_t group_size, double epsilon,
                           double* sums);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_SEARCH_SUM_KERNELS_H_
