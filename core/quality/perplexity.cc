#include "core/quality/perplexity.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/tensor/non_finite.h"

namespace salient {
namespace {

absl::Status CheckSlice(int64_t first_id, int64_t expected_id, int64_t positions,
                        MatrixView logits) {
  if (first_id != expected_id || logits.rows < positions || logits.cols < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "logits are [", logits.rows, ", ", logits.cols, "] from id ", first_id,
        "; expected at least ", positions, " rows and 1 column from id ", expected_id));
  }
  for (int64_t t = 0; t < positions; ++t) {
    const std::optional<int64_t> i = FirstNonFinite(logits.Row(t), logits.cols);
    if (!i.has_value()) continue;
    return absl::InvalidArgumentError(absl::StrCat("logit of id ", first_id + *i, " at position ",
                                                   t, " is ", logits.Row(t)[*i],
                                                   "; expected a finite value"));
  }
  return absl::OkStatus();
}

// Returns the index of the largest of a row, the first of equals.
int64_t Top(const float* row, int64_t count) { return std::max_element(row, row + count) - row; }

// Returns what sums of exp(. - before) are multiplied by when the largest becomes `after`.
double Rescale(double before, double after) { return std::exp(before - after); }

}  // namespace

void Likelihood::Add(const Likelihood& other) {
  negative_log_likelihood += other.negative_log_likelihood;
  tokens += other.tokens;
}

double Likelihood::Perplexity() const {
  return std::exp(negative_log_likelihood / static_cast<double>(tokens));
}

RowLikelihood::RowLikelihood(absl::Span<const int64_t> tokens)
    : tokens_(tokens.begin(), tokens.end()) {
  const size_t positions = tokens_.empty() ? 0 : tokens_.size() - 1;
  largest_.resize(positions);
  sums_.resize(positions);
  targets_.resize(positions);
  found_.resize(positions);
}

absl::Status RowLikelihood::Add(int64_t first_id, MatrixView logits) {
  const absl::Status status =
      CheckSlice(first_id, next_id_, static_cast<int64_t>(sums_.size()), logits);
  if (!status.ok()) return status;
  for (size_t t = 0; t < sums_.size(); ++t) {
    const float* row = logits.Row(static_cast<int64_t>(t));
    const double top = row[Top(row, logits.cols)];
    const double largest = first_id == 0 ? top : std::max(top, largest_[t]);
    double sum = first_id == 0 ? 0 : sums_[t] * Rescale(largest_[t], largest);
    for (int64_t i = 0; i < logits.cols; ++i) sum += std::exp(row[i] - largest);
    largest_[t] = largest;
    sums_[t] = sum;
    const int64_t column = tokens_[t + 1] - first_id;
    if (column < 0 || column >= logits.cols) continue;
    targets_[t] = row[column];
    found_[t] = true;
  }
  next_id_ += logits.cols;
  return absl::OkStatus();
}

absl::StatusOr<Likelihood> RowLikelihood::Finish() const {
  Likelihood likelihood;
  for (size_t t = 0; t < sums_.size(); ++t) {
    if (!found_[t]) {
      return absl::InvalidArgumentError(absl::StrCat("token at position ", t + 1, " is ",
                                                     tokens_[t + 1], "; expected 0 to ",
                                                     next_id_ - 1, ", the ids of the logits"));
    }
    likelihood.negative_log_likelihood += largest_[t] + std::log(sums_[t]) - targets_[t];
    ++likelihood.tokens;
  }
  return likelihood;
}

void Divergence::Add(const Divergence& other) {
  kl += other.kl;
  agreements += other.agreements;
  tokens += other.tokens;
}

double Divergence::MeanKl() const { return kl / static_cast<double>(tokens); }

double Divergence::Top1Agreement() const {
  return static_cast<double>(agreements) / static_cast<double>(tokens);
}

RowDivergence::RowDivergence(int64_t positions) : positions_(static_cast<size_t>(positions)) {}

absl::Status RowDivergence::Add(int64_t first_id, MatrixView source, MatrixView result) {
  const int64_t positions = static_cast<int64_t>(positions_.size());
  for (const MatrixView& logits : {source, result}) {
    absl::Status status = CheckSlice(first_id, next_id_, positions, logits);
    if (!status.ok()) return status;
  }
  if (source.cols != result.cols) {
    return absl::InvalidArgumentError(absl::StrCat("logits of the result have ", result.cols,
                                                   " columns; expected ", source.cols,
                                                   " as those of the source"));
  }
  for (int64_t t = 0; t < positions; ++t) {
    Running& at = positions_[static_cast<size_t>(t)];
    const float* p = source.Row(t);
    const float* q = result.Row(t);
    const int64_t source_top = Top(p, source.cols);
    const int64_t result_top = Top(q, result.cols);
    if (first_id == 0 || p[source_top] > at.source_largest) {
      const double rescale = first_id == 0 ? 0 : Rescale(at.source_largest, p[source_top]);
      at.source_sum *= rescale;
      at.weighted_sum *= rescale;
      at.source_largest = p[source_top];
      at.source_top = first_id + source_top;
    }
    if (first_id == 0 || q[result_top] > at.result_largest) {
      at.result_sum *= first_id == 0 ? 0 : Rescale(at.result_largest, q[result_top]);
      at.result_largest = q[result_top];
      at.result_top = first_id + result_top;
    }
    for (int64_t i = 0; i < source.cols; ++i) {
      const double weight = std::exp(p[i] - at.source_largest);
      at.source_sum += weight;
      at.weighted_sum += weight * (static_cast<double>(p[i]) - q[i]);
      at.result_sum += std::exp(q[i] - at.result_largest);
    }
  }
  next_id_ += source.cols;
  return absl::OkStatus();
}

absl::StatusOr<Divergence> RowDivergence::Finish() const {
  if (next_id_ == 0) return absl::InvalidArgumentError("no logits came; expected at least 1 id");
  Divergence divergence;
  for (const Running& at : positions_) {
    // It is sum p (log p - log q), with log p = source - log(sum exp(source)).
    divergence.kl += at.weighted_sum / at.source_sum -
                     (at.source_largest + std::log(at.source_sum)) +
                     (at.result_largest + std::log(at.result_sum));
    divergence.agreements += at.source_top == at.result_top ? 1 : 0;
    ++divergence.tokens;
  }
  return divergence;
}

}  // namespace salient
