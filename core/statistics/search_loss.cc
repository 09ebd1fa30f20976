#include "core/statistics/search_loss.h"

#include <algorithm>
#include <utility>

#include "core/kernels/search_kernels.h"
#include "core/kernels/search_sum_kernels.h"
#include "core/statistics/statistics.h"

namespace salient {
absl::StatusOr<SearchLoss> SearchLoss::Create(const LossModel& model, Executor& executor) {
  SearchLoss loss;
  loss.model_ = &model;
  loss.width_ = model.exact() ? model.in_features() : model.block_width();
  const int64_t blocks = model.exact() ? 1 : model.Blocks();
  loss.diagonal_.resize(static_cast<size_t>(model.in_features()));
  loss.forms_.resize(static_cast<size_t>(blocks));
  if (!model.exact()) loss.sketches_.resize(static_cast<size_t>(blocks));
  const auto create = [&](int64_t b, Executor& of_pieces) -> absl::Status {
    const int64_t first = loss.First(b);
    const MatrixView h = model.Centred(first, loss.Columns(b));
    // The diagonal stays f32: a bfloat16 of it would err the same way in every square.
    for (int64_t j = 0; j < h.cols; ++j) loss.diagonal_[first + j] = h.Row(j)[j];
    absl::StatusOr<QuadraticForm> form = QuadraticForm::Create(h, kPiece, of_pieces);
    if (!form.ok()) return form.status();
    loss.forms_[b] = *std::move(form);
    const Matrix& sketch = model.sketch();
    for (int64_t at = 0; at < h.cols && !model.exact(); at += kPiece) {
      const int64_t columns = std::min(kPiece, h.cols - at);
      std::vector<uint16_t> rounded(static_cast<size_t>(sketch.rows() * columns));
      for (int64_t k = 0; k < sketch.rows(); ++k) {
        NarrowToBf16(sketch.Row(k) + first + at, columns, 1.0f, rounded.data() + k * columns);
      }
      absl::StatusOr<Bf16Factor> factor =
          Bf16Factor::Create(rounded.data(), sketch.rows(), columns, columns);
      if (!factor.ok()) return factor.status();
      loss.sketches_[b].push_back(*std::move(factor));
    }
    return absl::OkStatus();
  };
  // Tasks are blocks, or the pieces of the only one.
  SerialExecutor serial;
  absl::Status status =
      model.exact() ? create(0, executor)
                    : executor.ForEach(blocks, [&](int64_t b) { return create(b, serial); });
  if (!status.ok()) return status;
  return loss;
}

int64_t SearchLoss::Columns(int64_t block) const {
  return std::min(width_, in_features() - First(block));
}

SearchLoss::Sums::Sums(const SearchLoss& loss, int64_t rows)
    : squares(static_cast<size_t>(rows), 0.0), shifts(squares) {
  if (loss.sketches_.empty()) return;
  projected = Matrix(rows, loss.model_->sketch().rows());
  within.assign(static_cast<size_t>(projected.cols()), 0.0);
}

SearchLoss::Scratch::Scratch(const SearchLoss& loss, int64_t rows) : product(rows, loss.width_) {
  if (!loss.sketches_.empty()) projection = Matrix(rows, loss.model_->sketch().rows());
}

absl::Status SearchLoss::AddBlock(int64_t block, const uint16_t* errors, int64_t rows,
                                  Scratch& scratch, Sums& sums) const {
  absl::Status status =
      forms_[block].Add(rows, errors, scratch.product.data(), sums.squares.data());
  if (!status.ok() || sketches_.empty()) return status;
  float* projection = scratch.projection.data();
  // Errors lie piece by piece, and so does the sketch: the pieces of a block add up in one product.
  float beta = 0.0f;
  for (const Bf16Factor& sketch : sketches_[block]) {
    status = sketch.Multiply(rows, errors, sketch.k(), beta, projection, sketch.n());
    if (!status.ok()) return status;
    errors += rows * sketch.k();
    beta = 1.0f;
  }
  // `projected` goes on adding up over blocks; the squares within this one are kept beside it.
  AddColumnSquares(projection, rows, scratch.projection.cols(), sums.projected.data(),
                   sums.within.data());
  return absl::OkStatus();
}

Loss SearchLoss::Total(const Sums& sums) const {
  Loss loss;
  // Sums cannot tell no error at all from one that rounding lost, so a 0 counts as unknown.
  loss.of_no_error = false;
  for (size_t t = 0; t < sums.squares.size(); ++t) {
    loss.exact += sums.squares[t] + sums.shifts[t] * sums.shifts[t];
  }
  if (sketches_.empty()) return loss;
  loss.sketched.assign(sums.within.size(), 0.0);
  AddColumnSquares(sums.projected.data(), sums.projected.rows(), sums.projected.cols(), nullptr,
                   loss.sketched.data());
  // Blocks are known exactly, so what the sketch says of each by itself is taken off.
  for (size_t k = 0; k < sums.within.size(); ++k) loss.sketched[k] -= sums.within[k];
  return loss;
}

double SearchLoss::ProductsPerWeight() const {
  double products = 0;
  for (const QuadraticForm& form : forms_) products += static_cast<double>(form.ProductsPerRow());
  for (const std::vector<Bf16Factor>& block : sketches_) {
    for (const Bf16Factor& sketch : block) products += static_cast<double>(sketch.n() * sketch.k());
  }
  return products / static_cast<double>(in_features());
}

int64_t SearchLoss::MemoryBytes(const StatisticsParams& params) {
  if (params.ExactGram()) return QuadraticForm::MemoryBytes(params.in_features, kPiece);
  const int64_t pieces = (params.block_width + kPiece - 1) / kPiece;
  return params.Blocks() * (QuadraticForm::MemoryBytes(params.block_width, kPiece) +
                            pieces * Bf16Factor::MemoryBytes(params.sketch_rows, kPiece));
}

}  // namespace salient
