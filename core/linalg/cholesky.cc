#include "core/linalg/cholesky.h"

#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace salient {
namespace {

// L with L L^T = A, row-major, entries above the diagonal 0.
absl::StatusOr<std::vector<double>> LowerCholesky(absl::Span<const double> a, int64_t n) {
  std::vector<double> l(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (int64_t k = 0; k < j; ++k) sum -= l[i * n + k] * l[j * n + k];
      if (i != j) {
        l[i * n + j] = sum / l[j * n + j];
      } else if (sum > 0) {
        l[i * n + i] = std::sqrt(sum);
      } else {
        return absl::FailedPreconditionError(
            absl::StrCat("matrix is not positive definite: pivot ", i, " of ", n, " is ", sum));
      }
    }
  }
  return l;
}

}  // namespace

absl::StatusOr<std::vector<double>> InverseUpperCholesky(absl::Span<const double> a, int64_t n) {
  // With J the exchange matrix and J A J = L L^T, A = (J L J)(J L J)^T and J L J is upper
  // triangular, so its inverse U is upper triangular with U^T U = A^-1: one factorization and
  // one triangular inverse instead of two factorizations around a full inverse.
  std::vector<double> flipped(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) flipped[i * n + j] = a[(n - 1 - i) * n + (n - 1 - j)];
  }
  absl::StatusOr<std::vector<double>> l = LowerCholesky(flipped, n);
  if (!l.ok()) return l.status();
  // Inverse of L, row by row: row i of L^-1 is (e_i - sum_{k<i} l_ik row k) / l_ii.
  std::vector<double> inverse(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    double* row = &inverse[i * n];
    for (int64_t k = 0; k < i; ++k) {
      const double factor = (*l)[i * n + k];
      const double* other = &inverse[k * n];
      for (int64_t j = 0; j <= k; ++j) row[j] -= factor * other[j];
    }
    row[i] = 1.0;
    const double pivot = (*l)[i * n + i];
    for (int64_t j = 0; j <= i; ++j) row[j] /= pivot;
  }
  std::vector<double> upper(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) upper[i * n + j] = inverse[(n - 1 - i) * n + (n - 1 - j)];
  }
  return upper;
}

absl::StatusOr<std::vector<double>> SolvePositiveDefinite(absl::Span<const double> a,
                                                          absl::Span<const double> b) {
  const int64_t n = static_cast<int64_t>(b.size());
  absl::StatusOr<std::vector<double>> l = LowerCholesky(a, n);
  if (!l.ok()) return l.status();
  std::vector<double> x(b.begin(), b.end());
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < i; ++k) x[i] -= (*l)[i * n + k] * x[k];
    x[i] /= (*l)[i * n + i];
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    for (int64_t k = i + 1; k < n; ++k) x[i] -= (*l)[k * n + i] * x[k];
    x[i] /= (*l)[i * n + i];
  }
  return x;
}

}  // namespace salient
