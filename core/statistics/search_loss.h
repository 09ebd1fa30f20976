// The loss of LossModel fast enough for thousands of rounding errors that are only compared.
#ifndef SALIENT_CORE_STATISTICS_SEARCH_LOSS_H_
#define SALIENT_CORE_STATISTICS_SEARCH_LOSS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/linalg/gemm.h"
#include "core/linalg/quadratic_form.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/matrix.h"

namespace salient {

// The formula of LossModel on bfloat16: errors, what is off the diagonal of H_c, and the sketch
// are rounded to it, sums are f32 and f64. The diagonal and |D mu|^2 come from whoever makes the
// errors and knows them in f32 (RoundPanel). Rounding is to within 2^-9 of each entry, whatever
// its column's size, and errs as often up as down: over the rows of a weight the loss differs by
// about 1e-4 of itself, by less than 1e-3 under one massive token.
//
// Evaluation goes block by block, so that errors never leave the cache: the same blocks as in
// LossModel, or one of all columns if the whole Gram is known.
//
// Immutable after Create, safe to share between threads. Borrows `model`.
class SearchLoss {
 public:
  // CANCELLED from the executor.
  static absl::StatusOr<SearchLoss> Create(const LossModel& model, Executor& executor);

  int64_t in_features() const { return model_->in_features(); }
  int64_t Blocks() const { return static_cast<int64_t>(forms_.size()); }
  int64_t First(int64_t block) const { return block * width_; }
  int64_t Columns(int64_t block) const;
  int64_t WidestBlock() const { return width_; }
  // Errors of a block come as pieces of so many columns, see QuadraticForm.
  static constexpr int64_t kPiece = 128;

  // Returns the diagonal of H_c / n, and of x: [in_features].
  const float* diagonal() const { return diagonal_.data(); }
  const float* mean() const { return model_->mean().data(); }

  // Holds what some rows' blocks so far add up to.
  struct Sums {
    // Holds the sums of errors [rows, in_features].
    Sums(const SearchLoss& loss, int64_t rows);

    std::vector<double> squares;  // [rows]: each is d H_c d^T of the blocks.
    std::vector<double> shifts;   // [rows]: each is d mu.
    Matrix projected;             // It is d S^T, [rows, r].
    std::vector<double> within;   // [r]: each is the sum over rows and blocks of (d_b S_b^T)^2.
  };

  // Scratch for tiles of up to `rows` rows.
  struct Scratch {
    Scratch(const SearchLoss& loss, int64_t rows);
    Matrix product;
    Matrix projection;
  };

  // Adds what errors [rows, Columns(block)] in pieces cost beyond their diagonal.
  absl::Status AddBlock(int64_t block, const uint16_t* errors, int64_t rows, Scratch& scratch,
                        Sums& sums) const;

  // The loss, once every block was added.
  Loss Total(const Sums& sums) const;

  // Multiply-adds of one error's evaluation.
  double ProductsPerWeight() const;
  static int64_t MemoryBytes(const StatisticsParams& params);

 private:
  const LossModel* model_ = nullptr;
  int64_t width_ = 0;
  std::vector<float> diagonal_;
  std::vector<QuadraticForm> forms_;  // Each block has one.
  // Each block has one by pieces, or there are none.
  std::vector<std::vector<Bf16Factor>> sketches_;
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_SEARCH_LOSS_H_
