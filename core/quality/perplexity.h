// Measures how well logits predict a row of tokens, and how far two models' logits are apart. Fed
// with slices of the vocabulary, so that a whole [tokens, vocabulary] matrix need not exist.
//
// Logits are natural: p = softmax(logits). All sums are f64 and all losses in nats.
#ifndef SALIENT_CORE_QUALITY_PERPLEXITY_H_
#define SALIENT_CORE_QUALITY_PERPLEXITY_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace salient {

struct Likelihood {
  double negative_log_likelihood = 0;  // It sums over predicted tokens.
  int64_t tokens = 0;                  // All but the first of a row are predicted.

  void Add(const Likelihood& other);
  // Returns exp(negative_log_likelihood / tokens).
  double Perplexity() const;
};

// Scores a row of T token ids; row t of the logits predicts id t + 1, so the last row predicts
// nothing and is not looked at, nor are rows beyond it. It is not thread-safe.
class RowLikelihood {
 public:
  // Copies `tokens`.
  explicit RowLikelihood(absl::Span<const int64_t> tokens);

  // Logits of ids [first_id, first_id + cols) for positions [0, rows), rows >= T - 1. Slices come
  // in order, without holes, from 0. Returns INVALID_ARGUMENT if they do not, or for a NaN or
  // infinity (names position and id).
  absl::Status Add(int64_t first_id, MatrixView logits);

  // Returns INVALID_ARGUMENT if no slice held one of the tokens.
  absl::StatusOr<Likelihood> Finish() const;

 private:
  std::vector<int64_t> tokens_;
  int64_t next_id_ = 0;
  std::vector<double> largest_;  // They are those of the logits so far, by position.
  std::vector<double> sums_;     // They are those of exp(logit - largest).
  std::vector<double> targets_;  // They are the logits of the tokens that came.
  std::vector<bool> found_;
};

struct Divergence {
  double kl = 0;           // It sums KL(source || result) over tokens, each >= 0 but for rounding.
  int64_t agreements = 0;  // Both have the same largest logit there (the first of equals).
  int64_t tokens = 0;

  void Add(const Divergence& other);
  // Returns nats a token.
  double MeanKl() const;
  // Returns a share, 0 to 1.
  double Top1Agreement() const;
};

// Compares two models on the same row, slice beside slice. It is not thread-safe.
class RowDivergence {
 public:
  // Looks at positions [0, positions).
  explicit RowDivergence(int64_t positions);

  // Does as RowLikelihood::Add, for two matrices of one shape.
  absl::Status Add(int64_t first_id, MatrixView source, MatrixView result);

  // Returns INVALID_ARGUMENT if no slice came.
  absl::StatusOr<Divergence> Finish() const;

 private:
  struct Running {
    double source_largest = 0;
    double result_largest = 0;
    int64_t source_top = 0;
    int64_t result_top = 0;
    double source_sum = 0;    // It is that of exp(source - source_largest).
    double result_sum = 0;    // It is that of exp(result - result_largest).
    double weighted_sum = 0;  // It is that of exp(source - source_largest) (source - result).
  };
  std::vector<Running> positions_;
  int64_t next_id_ = 0;
};

}  // namespace salient

#endif  // SALIENT_CORE_QUALITY_PERPLEXITY_H_
