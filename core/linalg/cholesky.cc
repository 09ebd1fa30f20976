#include "core/linalg/cholesky.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/kernels/elimination_kernels.h"
#include "core/linalg/gemm.h"

namespace salient {
namespace {

absl::Status NotPositive(int64_t pivot, int64_t n, double value) {
  return absl::FailedPreconditionError(
      absl::StrCat("matrix is not positive definite: pivot ", pivot, " of ", n, " is ", value));
}

// The last step of eliminating rows [first, first + count) in columns [begin, end): what they share
// with each other, after EliminateRows.
void EliminateWithin(double* rows, int64_t ld, int64_t first, int64_t row, int64_t begin,
                     int64_t end) {
  for (int64_t k = first; k < row; ++k) {
    const double* above = &rows[k * ld];
    const double factor = above[row];
    for (int64_t j = begin; j < end; ++j) rows[row * ld + j] -= factor * above[j];
  }
}

// With J the exchange matrix and J A J = T^T T: rows [T | T^-T], [n, 2n]. Rows [J A J | I] are
// eliminated in one go: each takes from itself what the rows above it, already done, share with it.
// Every pivot has to be above `least`.
absl::StatusOr<std::vector<double>> EliminateWithIdentity(absl::Span<const double> a, int64_t n,
                                                          double least) {
  const int64_t ld = 2 * n;
  std::vector<double> rows(static_cast<size_t>(n * ld), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) rows[i * ld + j] = a[(n - 1 - i) * n + (n - 1 - j)];
    rows[i * ld + n + i] = 1.0;
  }
  constexpr int64_t kRight = 16;  // Columns whose leading zeros are skipped together are so many.
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
      if (!(row[i] > least)) return NotPositive(i, n, row[i]);
      const double inverse = 1.0 / std::sqrt(row[i]);
      for (int64_t j = i; j <= n + i; ++j) row[j] *= inverse;
    }
  }
  return rows;
}

// U = J T^-T J is upper triangular with U^T U = A^-1.
double InverseAt(const std::vector<double>& rows, int64_t n, int64_t i, int64_t j) {
  return rows[(n - 1 - i) * 2 * n + n + (n - 1 - j)];
}

// Works from the last block of columns to the first: what those before a block still have to give
// is summed in f64 over pieces of f32 products, so that an entry is rounded to f32 once.
class UpperFactoring {
 public:
  UpperFactoring(Matrix a, double least_pivot)
      : n_(a.rows()), least_pivot_(least_pivot), a_(std::move(a)) {
    inverses_.resize(static_cast<size_t>((n_ + kFactorBlock - 1) / kFactorBlock));
  }

  absl::StatusOr<UpperFactor> Run(Executor& executor) && {
    for (auto block = static_cast<int64_t>(inverses_.size()) - 1; block >= 0; --block) {
      std::vector<double> diagonal;
      absl::Status status = executor.ForEach(1, [&](int64_t) {
        absl::StatusOr<std::vector<double>> done = FactorDiagonal(block);
        if (!done.ok()) return done.status();
        diagonal = *std::move(done);
        return absl::OkStatus();
      });
      if (!status.ok()) return status;
      status =
          executor.ForEach(block, [&](int64_t row) { return FactorTile(row, block, diagonal); });
      if (!status.ok()) return status;
    }
    return UpperFactor{std::move(a_), std::move(inverses_)};
  }

 private:
  static constexpr int64_t kPiece = 512;  // A product has so many columns.

  int64_t Begin(int64_t block) const { return block * kFactorBlock; }
  int64_t Columns(int64_t block) const { return std::min(kFactorBlock, n_ - Begin(block)); }

  // A - R R^T over the columns after `block`, of the tile [rows of `row`, columns of `block`].
  absl::StatusOr<std::vector<double>> Remainder(int64_t row, int64_t block) const {
    const int64_t height = Columns(row);
    const int64_t width = Columns(block);
    std::vector<double> rest(static_cast<size_t>(height * width));
    for (int64_t i = 0; i < height; ++i) {
      const float* from = a_.Row(Begin(row) + i) + Begin(block);
      std::copy_n(from, width, &rest[i * width]);
    }
    Matrix product = Matrix::Unset(height, width);
    for (int64_t k = Begin(block) + width; k < n_; k += kPiece) {
      absl::Status status = Gemm(Op::kPlain, Op::kTransposed, height, width,
                                 std::min(kPiece, n_ - k), a_.Row(Begin(row)) + k, n_,
                                 a_.Row(Begin(block)) + k, n_, 0.0f, product.data(), width);
      if (!status.ok()) return status;
      for (int64_t i = 0; i < height * width; ++i) rest[i] -= double{product.data()[i]};
    }
    return rest;
  }

  absl::StatusOr<std::vector<double>> FactorDiagonal(int64_t block) {
    const int64_t n = Columns(block);
    absl::StatusOr<std::vector<double>> rest = Remainder(block, block);
    if (!rest.ok()) return rest.status();
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < i; ++j) (*rest)[i * n + j] = (*rest)[j * n + i];
    }
    absl::StatusOr<std::vector<double>> rows = EliminateWithIdentity(*rest, n, least_pivot_);
    if (!rows.ok()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "columns ", Begin(block), " to ", Begin(block) + n, ": ", rows.status().message()));
    }
    Matrix inverse(n, n);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j) {
        inverse.Row(i)[j] = static_cast<float>(InverseAt(*rows, n, i, j));
      }
    }
    inverses_[static_cast<size_t>(block)] = std::move(inverse);
    return rows;
  }

  // R of a tile is S R_JJ^-T, S what is left of A there: its columns in reverse, eliminated by T.
  absl::Status FactorTile(int64_t row, int64_t block, const std::vector<double>& diagonal) {
    const int64_t height = Columns(row);
    const int64_t n = Columns(block);
    const int64_t ld = n + height;
    const absl::StatusOr<std::vector<double>> rest = Remainder(row, block);
    if (!rest.ok()) return rest.status();
    std::vector<double> rows(static_cast<size_t>(n * ld));
    for (int64_t p = 0; p < n; ++p) {
      std::copy_n(&diagonal[p * 2 * n], n, &rows[p * ld]);
      for (int64_t i = 0; i < height; ++i) rows[p * ld + n + i] = (*rest)[i * n + (n - 1 - p)];
    }
    for (int64_t first = 0; first < n; first += kEliminatedRows) {
      const int64_t count = std::min(kEliminatedRows, n - first);
      EliminateRows(rows.data(), ld, first, count, 0, n, ld);
      for (int64_t p = first; p < first + count; ++p) {
        EliminateWithin(rows.data(), ld, first, p, n, ld);
        const double inverse = 1.0 / rows[p * ld + p];
        for (int64_t j = n; j < ld; ++j) rows[p * ld + j] *= inverse;
      }
    }
    for (int64_t i = 0; i < height; ++i) {
      float* to = a_.Row(Begin(row) + i) + Begin(block);
      for (int64_t c = 0; c < n; ++c) to[c] = static_cast<float>(rows[(n - 1 - c) * ld + n + i]);
    }
    return absl::OkStatus();
  }

  int64_t n_;
  double least_pivot_;
  Matrix a_;
  std::vector<Matrix> inverses_;
};

}  // namespace

absl::StatusOr<std::vector<double>> InverseUpperCholesky(absl::Span<const double> a, int64_t n) {
  const absl::StatusOr<std::vector<double>> rows = EliminateWithIdentity(a, n, 0);
  if (!rows.ok()) return rows.status();
  std::vector<double> upper(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) upper[i * n + j] = InverseAt(*rows, n, i, j);
  }
  return upper;
}

absl::StatusOr<UpperFactor> UpperCholesky(Matrix a, double least_pivot, Executor& executor) {
  return UpperFactoring(std::move(a), least_pivot).Run(executor);
}

absl::Status SolveInPlace(absl::Span<double> a, absl::Span<double> b) {
  const int64_t n = static_cast<int64_t>(b.size());
  for (int64_t i = 0; i < n; ++i) {  // Below and on the diagonal a becomes L, L L^T = A.
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
