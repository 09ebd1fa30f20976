// The inner loop of elimination, in f64: what factors of curvature matrices cost.
//
// Vectorized, dispatched at run time; fused multiply-adds may differ in the last bits between
// instruction sets, never between calls. Thread-safe; allocates nothing.
#ifndef SALIENT_CORE_KERNELS_ELIMINATION_KERNELS_H_
#define SALIENT_CORE_KERNELS_ELIMINATION_KERNELS_H_

#include <cstdint>

namespace salient {

// Elimination, the step that costs: rows i = first .. first + count - 1, count at most
// kEliminatedRows, of a matrix of row stride ld lose rows k in [skip, first):
// row_i[j] -= row_k[i] * row_k[j] for columns j in [begin, end).
inline constexpr int64_t kEliminatedRows = 4;
void EliminateRows(double* rows, int64_t ld, int64_t first, int64_t count, int64_t skip,
                   int64_t begin, int64_t end);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_ELIMINATION_KERNELS_H_
