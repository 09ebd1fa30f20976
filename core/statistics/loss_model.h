// The loss of a quantized weight as a quadratic form in its error, evaluated on statistics.
#ifndef SALIENT_CORE_STATISTICS_LOSS_MODEL_H_
#define SALIENT_CORE_STATISTICS_LOSS_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"
#include "core/tensor/matrix.h"

namespace salient {

// Columns of an exact loss are multiplied so many at a time.
inline constexpr int64_t kExactLossPiece = 256;

// A loss, with what is needed to tell whether two losses really differ. Losses of disjoint
// output rows add.
struct Loss {
  double exact = 0;  // It is the part that is known exactly.
  // [r] One unbiased estimate of the rest per sketch row; empty when nothing is estimated.
  std::vector<double> sketched;
  // This says whether the error that it is the loss of is sure to be 0 everywhere.
  bool of_no_error = true;

  double Value() const;  // Returns exact + mean(sketched).
  // Returns whether Value() tells anything: a loss of an error that is not 0 is above 0, and what
  // is not is noise, of an estimate, of f32, or of inputs that are all 0.
  bool IsKnown() const;
  // Returns Value() as a report may have it: finite and at least 0.
  double Reported() const;
  void Add(const Loss& other);
  // Standard error of Value() - other.Value(). Both share the sketch, so errors cancel.
  double StandardErrorOfDifference(const Loss& other) const;
  double StandardError() const { return StandardErrorOfDifference(Loss()); }
};

// L(D) = tr(D H D^T) / n for the error D [rows, in_features] of some output rows, H = X^T X over
// n tokens. With mu the mean input and H_c = H - n mu mu^T,
//
//   n L = tr(D H_c D^T) + n |D mu|^2,
//   tr(D H_c D^T) = sum_b tr(D_b H_bb D_b^T) + sum_{b != c} tr(D_b H_bc D_c^T),
//
// where b, c run over column blocks. When the whole Gram was kept all of it is exact. Else the
// off-diagonal sum is estimated from the centred sketch S = R X - (R 1) mu^T: each sketch row
// k gives (sum_b D_b S_kb)^2 - sum_b (D_b S_kb)^2, whose mean is that sum.
//
// Immutable after Create, safe to share between threads. Borrows nothing.
class LossModel {
 public:
  // CANCELLED and the like from `executor`.
  static absl::StatusOr<LossModel> Create(const Statistics& statistics, Executor& executor);
  // Builds it on the calling thread.
  explicit LossModel(const Statistics& statistics);

  int64_t in_features() const { return in_features_; }
  int64_t token_count() const { return token_count_; }
  bool exact() const { return gram_.rows() > 0; }

  // Loss of `errors` [rows, in_features], row-major, contiguous. Scratch is allocated per call.
  absl::StatusOr<Loss> Evaluate(const float* errors, int64_t rows) const;

  // The uncentred diagonal block H_bb / n of columns [b width, b width + BlockColumns(b)),
  // row-major with stride block_width().
  int64_t block_width() const { return block_width_; }
  int64_t Blocks() const { return static_cast<int64_t>(blocks_.rows()) / block_width_; }
  int64_t BlockColumns(int64_t block) const;
  const float* Block(int64_t block) const { return blocks_.Row(block * block_width_); }

  // H_c / n of columns [first, first + columns), which lie in one diagonal block unless exact().
  MatrixView Centred(int64_t first, int64_t columns) const;
  // [r, I] The centred sketch over sqrt(n); no rows if exact().
  const Matrix& sketch() const { return sketch_; }
  // [1, I] mu.
  const Matrix& mean() const { return mean_; }

  // Bytes a model holds for statistics of these params.
  static int64_t MemoryBytes(const StatisticsParams& params);

 private:
  // Room for what `statistics` hold, all 0.
  struct Empty {};
  LossModel(const Statistics& statistics, Empty);
  // The part of block b's columns.
  void FillColumns(const Statistics& statistics, int64_t block);

  absl::StatusOr<Loss> EvaluateExact(const float* errors, int64_t rows) const;
  absl::StatusOr<Loss> EvaluateSketched(const float* errors, int64_t rows) const;

  int64_t in_features_;
  int64_t token_count_;
  int64_t block_width_;
  Matrix blocks_;          // They are [Blocks() * w, w], uncentred, over n.
  Matrix centred_blocks_;  // They are the same, centred; there are none when the Gram is whole.
  Matrix gram_;            // It is [I, I], centred, over n, and empty when sketched.
  Matrix sketch_;          // It is [r, I], centred, over sqrt(n).
  Matrix mean_;            // It is [1, I].
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_LOSS_MODEL_H_
