#include "core/linalg/cholesky.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/linalg/panel_kernels.h"

namespace salient {
namespace {

absl::Status NotPositive(int64_t pivot, int64_t n, double value) {
  return absl::FailedPreconditionError(
      absl::StrCat("matrix is not positive definite: pivot ", pivot, " of ", n, " is ", value));
}

}  // namespace

absl::StatusOr<std::vector<double>> InverseUpperCholesky(absl::Span<const double> a, int64_t n) {
  // With J the exchange matrix and J A J = R^T R, U = J R^-T J is upper triangular with
  // U^T U = A^-1. Rows [J A J | I] are eliminated to [R | R^-T] in one go: each takes from itself
  // what the rows above it, already done, share with it.
  const int64_t ld = 2 * n;
  std::vector<double> rows(static_cast<size_t>(n * ld), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) rows[i * ld + j] = a[(n - 1 - i) * n + (n - 1 - j)];
    rows[i * ld + n + i] = 1.0;
  }
  constexpr int64_t kRight = 16;  // columns on the right whose leading zeros are skipped together
  for (int64_t first = 0; first < n; first += kEliminatedRows) {
    const int64_t count = std::min(kEliminatedRows, n - first);
    EliminateRows(rows.data(), ld, first, count, 0, first, n);
    for (int64_t j = 0; j < first; j += kRight) {
      EliminateRows(rows.data(), ld, first, count, j, n + j, n + std::min(first, j + kRight));
    }
    for (int64_t i = first; i < first + count; ++i) {
      double* row = &rows[i * ld];
      for (int64_t k = first; k < i; ++k) {
        const double* above = &rows[k * ld];
        const double factor = above[i];
        for (int64_t j = i; j < n; ++j) row[j] -= factor * above[j];
        for (int64_t j = n; j <= n + k; ++j) row[j] -= factor * above[j];
      }
      if (!(row[i] > 0)) return NotPositive(i, n, row[i]);
      const double inverse = 1.0 / std::sqrt(row[i]);
      for (int64_t j = i; j <= n + i; ++j) row[j] *= inverse;
    }
  }
  std::vector<double> upper(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) upper[i * n + j] = rows[(n - 1 - i) * ld + n + (n - 1 - j)];
  }
  return upper;
}

absl::Status SolveInPlace(absl::Span<double> a, absl::Span<double> b) {
  const int64_t n = static_cast<int64_t>(b.size());
  for (int64_t i = 0; i < n; ++i) {  // a becomes L, L L^T = A, below and on the diagonal
    for (int64_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (int64_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      if (i != j) {
        a[i * n + j] = sum / a[j * n + j];
      } else if (sum > 0) {
        a[i * n + i] = std::sqrt(sum);
      } else {
        return NotPositive(i, n, sum);
      }
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    for (int64_t k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return absl::OkStatus();
}

}  // namespace salient
