// Statistics by the textbook, for tests: plain f64 sums over a whole activation matrix, with
// none of the tiling, rounding or sketching generator that the production path uses.
#ifndef SALIENT_TESTS_SUPPORT_DIRECT_STATISTICS_H_
#define SALIENT_TESTS_SUPPORT_DIRECT_STATISTICS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/kernels/binned_sums.h"
#include "core/statistics/statistics.h"
#include "core/statistics/sum_values.h"
#include "core/tensor/matrix.h"

namespace salient::testing {

// These are sums as numbers; names are as in Statistics.
struct DirectSums {
  std::vector<double> sum, sum_abs, gram, blocks, sketch;
};

// Sums the whole Gram of activations [tokens, in_features], whatever the width.
inline DirectSums SumDirectly(const Matrix& x) {
  const int64_t columns = x.cols();
  DirectSums sums;
  sums.sum.assign(columns, 0);
  sums.sum_abs.assign(columns, 0);
  sums.gram.assign(columns * columns, 0);
  for (int64_t t = 0; t < x.rows(); ++t) {
    const float* row = x.Row(t);
    for (int64_t i = 0; i < columns; ++i) {
      sums.sum[i] += row[i];
      sums.sum_abs[i] += std::abs(row[i]);
      for (int64_t j = 0; j < columns; ++j) {
        sums.gram[i * columns + j] += static_cast<double>(row[i]) * row[j];
      }
    }
  }
  return sums;
}

// Returns the same sums as statistics of one calibration row.
inline Statistics DirectStatistics(const Matrix& x) {
  const int64_t columns = x.cols();
  const DirectSums sums = SumDirectly(x);
  StatisticsParams params;
  params.in_features = columns;
  params.exact_gram_limit = columns;
  Statistics statistics = EmptyStatistics(params);
  statistics.token_count = x.rows();
  statistics.rows.Insert(0);
  for (int64_t j = 0; j < columns; ++j) {
    statistics.sum_exponents[j] = BoundExponent(sums.sum_abs[j]);
    statistics.square_exponents[j] = BoundExponent(sums.gram[j * columns + j]);
    const int frame = FrameOf(2 * statistics.sum_exponents[j], 0);
    statistics.sum[j] = WordOf(sums.sum[j], frame);
    statistics.sum_abs[j] = WordOf(sums.sum_abs[j], frame);
    for (int64_t t = 0; t < x.rows(); ++t) {
      statistics.max_abs[j] = std::max(statistics.max_abs[j], std::abs(x.Row(t)[j]));
    }
  }
  for (int64_t i = 0; i < columns; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const int frame = FrameOf(statistics.square_exponents[i] + statistics.square_exponents[j], 0);
      statistics.gram[i * columns + j] = WordOf(sums.gram[i * columns + j], frame);
    }
  }
  return statistics;
}

// Returns the sums of statistics; unused rows and columns of the last block are 0.
inline DirectSums ValuesOf(const Statistics& statistics) {
  const StatisticsParams& params = statistics.params;
  const SumValues values(statistics);
  DirectSums sums;
  sums.gram.resize(statistics.gram.size());
  sums.blocks.resize(statistics.blocks.size());
  for (int64_t i = 0; i < params.in_features; ++i) {
    sums.sum.push_back(values.Sum(i));
    sums.sum_abs.push_back(values.SumAbs(i));
    const int64_t first = params.ExactGram() ? 0 : i / params.block_width * params.block_width;
    const int64_t end = params.ExactGram()
                            ? params.in_features
                            : std::min(params.in_features, first + params.block_width);
    double* row = params.ExactGram() ? sums.gram.data() + i * params.in_features
                                     : sums.blocks.data() + i * params.block_width;
    for (int64_t j = first; j < end; ++j) row[j - first] = values.Product(i, j);
  }
  for (int64_t k = 0; k < params.sketch_rows && !params.ExactGram(); ++k) {
    for (int64_t j = 0; j < params.in_features; ++j) sums.sketch.push_back(values.Sketch(k, j));
  }
  return sums;
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

// Makes activations with correlated columns, a mean shift and 1 % salient channels.
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
