// Statistics by the textbook, for tests: plain f64 sums over a whole activation matrix, with
// none of the tiling, rounding or sketching generator that the production path uses.
#ifndef SALIENT_TESTS_SUPPORT_DIRECT_STATISTICS_H_
#define SALIENT_TESTS_SUPPORT_DIRECT_STATISTICS_H_

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/statistics/statistics.h"
#include "core/tensor/matrix.h"

namespace salient::testing {

// Whole Gram of activations [tokens, in_features], whatever the width.
inline Statistics DirectStatistics(const Matrix& x) {
  const int64_t columns = x.cols();
  Statistics statistics;
  statistics.params.in_features = columns;
  statistics.params.exact_gram_limit = columns;
  statistics.token_count = x.rows();
  statistics.rows.Insert(0);
  statistics.sum.assign(columns, 0);
  statistics.sum_abs.assign(columns, 0);
  statistics.max_abs.assign(columns, 0);
  statistics.gram.assign(columns * columns, 0);
  for (int64_t t = 0; t < x.rows(); ++t) {
    const float* row = x.Row(t);
    for (int64_t i = 0; i < columns; ++i) {
      statistics.sum[i] += row[i];
      statistics.sum_abs[i] += std::abs(row[i]);
      statistics.max_abs[i] = std::max(statistics.max_abs[i], std::abs(row[i]));
      for (int64_t j = 0; j < columns; ++j) {
        statistics.gram[i * columns + j] += static_cast<double>(row[i]) * row[j];
      }
    }
  }
  return statistics;
}

// Keeps the first `tokens` of x as the sample. Which they are by hash does not matter to whoever
// reads it.
inline void KeepSample(const Matrix& x, int64_t tokens, Statistics& statistics) {
  statistics.sample.keys.resize(static_cast<size_t>(tokens));
  statistics.sample.values.assign(x.data(), x.data() + tokens * x.cols());
}

// mean over tokens of |E x|^2 for E [rows, in_features], straight from the tokens.
inline double DirectLoss(const float* errors, int64_t rows, const Matrix& x) {
  double sum = 0;
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t o = 0; o < rows; ++o) {
      double y = 0;
      for (int64_t j = 0; j < x.cols(); ++j) {
        y += static_cast<double>(errors[o * x.cols() + j]) * x.Row(t)[j];
      }
      sum += y * y;
    }
  }
  return sum / static_cast<double>(x.rows());
}

// Gaussian [rows, cols] of a fixed seed; a few columns of activations are made salient.
inline Matrix GaussianMatrix(uint64_t seed, int64_t rows, int64_t cols, float deviation = 1.0f) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  Matrix matrix(rows, cols);
  for (int64_t i = 0; i < rows * cols; ++i) matrix.data()[i] = normal(random);
  return matrix;
}

// Activations with correlated columns, a mean shift and 1 % salient channels.
inline Matrix Activations(uint64_t seed, int64_t tokens, int64_t columns) {
  const int64_t factors = std::max<int64_t>(4, columns / 16);
  const Matrix loadings = GaussianMatrix(seed, factors, columns, 0.5f);
  const Matrix codes = GaussianMatrix(seed + 1, tokens, factors);
  const Matrix noise = GaussianMatrix(seed + 2, tokens, columns);
  const Matrix shift = GaussianMatrix(seed + 3, 1, columns, 0.3f);
  Matrix x(tokens, columns);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < columns; ++j) {
      float value = noise.Row(t)[j] + shift.data()[j];
      for (int64_t f = 0; f < factors; ++f) value += codes.Row(t)[f] * loadings.Row(f)[j];
      x.Row(t)[j] = j % 97 == 5 ? 24 * value : value;
    }
  }
  return x;
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_DIRECT_STATISTICS_H_
