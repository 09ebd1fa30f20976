#include "core/linalg/quadratic_form.h"

#include <algorithm>
#include <utility>

#include "core/kernels/search_kernels.h"
#include "core/kernels/search_sum_kernels.h"
#include "core/parallel/tiles.h"

namespace salient {

absl::StatusOr<QuadraticForm> QuadraticForm::Create(MatrixView h, int64_t piece,
                                                    Executor& executor) {
  const RowTiles pieces(h.rows, piece);
  QuadraticForm form;
  form.factors_.resize(static_cast<size_t>(pieces.size()));
  absl::Status status = executor.ForEach(pieces.size(), [&](int64_t index) {
    const int64_t first = pieces.First(index);
    const int64_t count = pieces.Count(index);
    const int64_t rest = h.rows - first;
    // The factor has the piece's own rows and all below: H is symmetric, so rows above were met by
    // an earlier piece. Off the piece an element stands for two and is doubled, which bfloat16 does
    // exactly; within the piece both halves are there.
    std::vector<uint16_t> rounded(static_cast<size_t>(rest * count));
    for (int64_t i = 0; i < rest; ++i) {
      uint16_t* row = rounded.data() + i * count;
      NarrowToBf16(h.Row(first + i) + first, count, i < count ? 1.0f : 2.0f, row);
      if (i < count) row[i] = 0;
    }
    absl::StatusOr<Bf16Factor> factor = Bf16Factor::Create(rounded.data(), rest, count, count);
    if (factor.ok()) form.factors_[index] = *std::move(factor);
    return factor.status();
  });
  if (!status.ok()) return status;
  return form;
}

absl::Status QuadraticForm::Add(int64_t rows, const uint16_t* d, float* product,
                                double* sums) const {
  for (const Bf16Factor& factor : factors_) {
    const int64_t columns = factor.k();
    const int64_t rest = factor.n();
    if (absl::Status status = factor.Multiply(rows, d, columns, 0.0f, product, rest);
        !status.ok()) {
      return status;
    }
    // Row t of the product is the piece of d_t times H, over the columns from this piece on; its
    // dot products with those columns of d_t finish the form. d lies piece by piece, so each is met
    // at its own offset.
    const uint16_t* other = d;
    for (int64_t at = 0; at < rest;) {
      const int64_t n = std::min(columns, rest - at);
      AddRowDots(product + at, rest, other, n, rows, n, sums);
      other += rows * n;
      at += n;
    }
    d += rows * columns;
  }
  return absl::OkStatus();
}

int64_t QuadraticForm::ProductsPerRow() const {
  int64_t products = 0;
  for (const Bf16Factor& factor : factors_) products += factor.n() * factor.k();
  return products;
}

int64_t QuadraticForm::MemoryBytes(int64_t n, int64_t piece) {
  int64_t bytes = 0;
  for (int64_t first = 0; first < n; first += piece) {
    const int64_t count = std::min(piece, n - first);
    bytes += Bf16Factor::MemoryBytes(n - first, count);
  }
  return bytes;
}

}  // namespace salient
