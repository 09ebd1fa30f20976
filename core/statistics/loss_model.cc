#include "core/statistics/loss_model.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/sum_kernels.h"
#include "core/linalg/gemm.h"
#include "core/statistics/sum_values.h"

namespace salient {

double Loss::Value() const {
  if (sketched.empty()) return exact;
  // Each sketch row estimates the off-diagonal part by itself; their mean is the estimate.
  double sum = 0;
  for (double term : sketched) sum += term;
  return exact + sum / static_cast<double>(sketched.size());
}

bool Loss::IsKnown() const {
  const double value = Value();
  return std::isfinite(value) && (value > 0 || (of_no_error && value == 0));
}

double Loss::Reported() const {
  for (const double value : {Value(), exact}) {
    if (std::isfinite(value) && value >= 0) return value;
  }
  return 0;
}

void Loss::Add(const Loss& other) {
  exact += other.exact;
  of_no_error = of_no_error && other.of_no_error;
  if (sketched.empty()) sketched.resize(other.sketched.size(), 0.0);
  for (size_t k = 0; k < other.sketched.size(); ++k) sketched[k] += other.sketched[k];
}

double Loss::StandardErrorOfDifference(const Loss& other) const {
  const size_t r = std::max(sketched.size(), other.sketched.size());
  if (r < 2) return 0;
  // Both losses were sketched with the same signs, so the rows are compared in pairs: most of their
  // error is common and falls out of the difference.
  const auto term = [&](size_t k) {
    return (sketched.empty() ? 0 : sketched[k]) - (other.sketched.empty() ? 0 : other.sketched[k]);
  };
  double mean = 0;
  for (size_t k = 0; k < r; ++k) mean += term(k);
  mean /= static_cast<double>(r);
  double squares = 0;
  for (size_t k = 0; k < r; ++k) squares += (term(k) - mean) * (term(k) - mean);
  return std::sqrt(squares / static_cast<double>(r - 1) / static_cast<double>(r));
}

LossModel::LossModel(const Statistics& statistics, Empty)
    : in_features_(statistics.params.in_features),
      token_count_(statistics.token_count),
      block_width_(statistics.params.block_width),
      blocks_(statistics.params.Blocks() * block_width_, block_width_),
      mean_(1, in_features_) {
  const StatisticsParams& params = statistics.params;
  if (params.ExactGram()) {
    gram_ = Matrix(in_features_, in_features_);
  } else {
    centred_blocks_ = Matrix(blocks_.rows(), block_width_);
    sketch_ = Matrix(params.sketch_rows, in_features_);
  }
}

LossModel::LossModel(const Statistics& statistics) : LossModel(statistics, Empty()) {
  for (int64_t b = 0; b < Blocks(); ++b) FillColumns(statistics, b);
}

absl::StatusOr<LossModel> LossModel::Create(const Statistics& statistics, Executor& executor) {
  LossModel model(statistics, Empty());
  absl::Status status = executor.ForEach(model.Blocks(), [&](int64_t block) {
    model.FillColumns(statistics, block);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return model;
}

void LossModel::FillColumns(const Statistics& statistics, int64_t block) {
  const double n = static_cast<double>(token_count_);
  const double root = std::sqrt(n);
  const bool exact_gram = statistics.params.ExactGram();
  const int64_t first = block * block_width_;
  const int64_t columns = BlockColumns(block);
  const SumValues values(statistics);
  std::vector<double> mean(static_cast<size_t>(in_features_));
  for (int64_t j = 0; j < in_features_; ++j) mean[j] = values.Sum(j) / n;
  for (int64_t j = first; j < first + columns; ++j) mean_.data()[j] = static_cast<float>(mean[j]);
  for (int64_t i = first; i < first + columns; ++i) {
    for (int64_t j = first; j < first + columns; ++j) {
      // Products are centred in f64, where taking off the means still leaves enough digits.
      const double product = values.Product(i, j) / n;
      blocks_.Row(i)[j - first] = static_cast<float>(product);
      if (exact_gram) continue;
      centred_blocks_.Row(i)[j - first] = static_cast<float>(product - mean[i] * mean[j]);
    }
    if (!exact_gram) continue;
    for (int64_t j = 0; j < in_features_; ++j) {
      gram_.Row(i)[j] = static_cast<float>(values.Product(i, j) / n - mean[i] * mean[j]);
    }
  }
  for (int64_t k = 0; k < sketch_.rows(); ++k) {
    for (int64_t j = first; j < first + columns; ++j) {
      // R (x - mean): the row sums of R, kept beside R X, centre the sketch when all tokens are
      // known.
      sketch_.Row(k)[j] = static_cast<float>(
          (values.Sketch(k, j) - statistics.sketch_row_sums[k] * mean[j]) / root);
    }
  }
}

MatrixView LossModel::Centred(int64_t first, int64_t columns) const {
  if (exact()) return {gram_.Row(first) + first, columns, columns, in_features_};
  return {centred_blocks_.Row(first) + first % block_width_, columns, columns, block_width_};
}

int64_t LossModel::BlockColumns(int64_t block) const {
  return std::min(block_width_, in_features_ - block * block_width_);
}

absl::StatusOr<Loss> LossModel::Evaluate(const float* errors, int64_t rows) const {
  absl::StatusOr<Loss> loss =
      exact() ? EvaluateExact(errors, rows) : EvaluateSketched(errors, rows);
  if (!loss.ok()) return loss;
  loss->of_no_error =
      std::all_of(errors, errors + rows * in_features_, [](float e) { return e == 0; });
  for (int64_t i = 0; i < rows; ++i) {
    // |D mean|^2 is what centring left out: exact, for one dot product a row.
    const double shift = Dot(errors + i * in_features_, mean_.data(), in_features_);
    loss->exact += shift * shift;
  }
  return loss;
}

absl::StatusOr<Loss> LossModel::EvaluateExact(const float* errors, int64_t rows) const {
  // H is symmetric: of the products between two pieces of the columns one of the two equal halves
  // is computed and counts twice.
  Loss loss;
  Matrix product(rows, std::min(kExactLossPiece, in_features_));
  const auto add = [&](int64_t row, int64_t height, int64_t column, double times) {
    const int64_t width = std::min(kExactLossPiece, in_features_ - column);
    absl::Status status =
        Gemm(Op::kPlain, Op::kPlain, rows, width, height, errors + row, in_features_,
             gram_.Row(row) + column, in_features_, 0.0f, product.data(), width);
    for (int64_t i = 0; i < rows && status.ok(); ++i) {
      loss.exact +=
          times * Dot(errors + i * in_features_ + column, product.data() + i * width, width);
    }
    return status;
  };
  for (int64_t column = 0; column < in_features_; column += kExactLossPiece) {
    absl::Status status = add(column, std::min(kExactLossPiece, in_features_ - column), column, 1);
    if (status.ok() && column > 0) status = add(0, column, column, 2);
    if (!status.ok()) return status;
  }
  return loss;
}

absl::StatusOr<Loss> LossModel::EvaluateSketched(const float* errors, int64_t rows) const {
  const int64_t r = sketch_.rows();
  Loss loss;
  loss.sketched.assign(static_cast<size_t>(r), 0.0);
  Matrix product(rows, block_width_);
  Matrix projection(rows, r);  // It is D_b S_b^T of one block.
  Matrix total(rows, r);       // It is their sum over blocks.
  for (int64_t b = 0; b < Blocks(); ++b) {
    const int64_t columns = BlockColumns(b);
    const float* block_errors = errors + b * block_width_;
    if (absl::Status status = Gemm(Op::kPlain, Op::kPlain, rows, columns, columns, block_errors,
                                   in_features_, centred_blocks_.Row(b * block_width_),
                                   block_width_, 0.0f, product.data(), block_width_);
        !status.ok()) {
      return status;
    }
    if (absl::Status status =
            Gemm(Op::kPlain, Op::kTransposed, rows, r, columns, block_errors, in_features_,
                 sketch_.data() + b * block_width_, in_features_, 0.0f, projection.data(), r);
        !status.ok()) {
      return status;
    }
    for (int64_t i = 0; i < rows; ++i) {
      loss.exact += Dot(block_errors + i * in_features_, product.Row(i), columns);
      const float* p = projection.Row(i);
      float* t = total.Row(i);
      for (int64_t k = 0; k < r; ++k) {
        // The sketch of all columns counts the diagonal blocks, too, which are known exactly; each
        // block's own part is taken off again.
        loss.sketched[k] -= static_cast<double>(p[k]) * p[k];
        t[k] += p[k];
      }
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    const float* t = total.Row(i);
    for (int64_t k = 0; k < r; ++k) loss.sketched[k] += static_cast<double>(t[k]) * t[k];
  }
  return loss;
}

int64_t LossModel::MemoryBytes(const StatisticsParams& params) {
  const int64_t blocks = params.Blocks() * params.block_width * params.block_width;
  const int64_t rest = params.ExactGram() ? params.in_features * params.in_features
                                          : blocks + params.sketch_rows * params.in_features;
  return static_cast<int64_t>(sizeof(float)) * (blocks + rest + params.in_features);
}

}  // namespace salient
