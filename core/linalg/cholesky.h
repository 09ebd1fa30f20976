// The factor that GPTQ-style rounding needs of a small positive definite matrix.
#ifndef SALIENT_CORE_LINALG_CHOLESKY_H_
#define SALIENT_CORE_LINALG_CHOLESKY_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace salient {

// The upper triangular U [n, n] with U^T U = A^-1 (Frantar et al., "GPTQ", arXiv:2210.17323,
// section 3.3). `a` [n, n] is symmetric, row-major. Works in f64. FAILED_PRECONDITION naming
// the pivot if A is not positive definite.
absl::StatusOr<std::vector<double>> InverseUpperCholesky(absl::Span<const double> a, int64_t n);

// Solves A x = b for symmetric positive definite A [n, n]: `b` becomes x, `a` is destroyed. Same
// error.
absl::Status SolveInPlace(absl::Span<double> a, absl::Span<double> b);

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_CHOLESKY_H_
