// The factors that GPTQ-style rounding needs of a positive definite matrix, small or wide.
#ifndef SALIENT_CORE_LINALG_CHOLESKY_H_
#define SALIENT_CORE_LINALG_CHOLESKY_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// The upper triangular U [n, n] with U^T U = A^-1 (Frantar et al., "GPTQ", arXiv:2210.17323,
// section 3.3). `a` [n, n] is symmetric, row-major. Works in f64. FAILED_PRECONDITION naming
// the pivot if A is not positive definite.
absl::StatusOr<std::vector<double>> InverseUpperCholesky(absl::Span<const double> a, int64_t n);

// Solves A x = b for symmetric positive definite A [n, n]: `b` becomes x, `a` is destroyed. Same
// error.
absl::Status SolveInPlace(absl::Span<double> a, absl::Span<double> b);

// Columns of one block of the factor below.
inline constexpr int64_t kFactorBlock = 128;

// R, upper triangular with R R^T = A, of a wide matrix. U = R^-1 is the factor above.
struct UpperFactor {
  // [n, n] R right of the diagonal blocks. In and below them what A had there.
  Matrix r;
  // [columns, columns] each: the diagonal blocks of U, which are the inverses of those of R.
  std::vector<Matrix> inverses;
};

// Factors `a` [n, n] in place: of symmetric A only what is on and above the diagonal is read.
// Products are f32; their sums and what happens inside a block of columns f64. Beside `a` it needs
// n kFactorBlock floats and a few tiles a thread. The same bits for any executor.
//
// FAILED_PRECONDITION naming columns and pivot if one, the square of an entry on R's diagonal, is
// not above `least_pivot`, which is at least 0: f32 knows them to some 1e-7 of A's diagonal.
// CANCELLED from the executor.
absl::StatusOr<UpperFactor> UpperCholesky(Matrix a, double least_pivot, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_CHOLESKY_H_
