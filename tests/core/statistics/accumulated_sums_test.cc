// Holds what an accumulator adds up against sums over all tokens at once.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/sketch_signs.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "tests/core/statistics/small_accumulator.h"
#include "tests/support/calibration_rows.h"
#include "tests/support/direct_statistics.h"

namespace salient {
namespace {

using testing::CalibrationRow;
using testing::FoldRow;
using testing::MakeAccumulator;
using testing::ParamsOf;

Statistics Accumulate(const StatisticsParams& params, const std::vector<CalibrationRow>& rows) {
  SerialExecutor serial;
  StatisticsAccumulator accumulator = MakeAccumulator(params);
  for (const CalibrationRow& row : rows) {
    const absl::Status status = FoldRow(
        accumulator, row, [] { return 100; }, serial);
    EXPECT_TRUE(status.ok()) << status;
  }
  auto statistics = std::move(accumulator).Finish(serial);
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  return *std::move(statistics);
}

class AgainstDirectSums : public ::testing::TestWithParam<int64_t> {};

// Property: every sum is the plain f64 sum over all tokens, up to f32 rounding of products.
TEST_P(AgainstDirectSums, EverySumIsThatOfTheDefinition) {
  const StatisticsParams params = ParamsOf(GetParam());
  const auto rows = testing::MakeRows(1, params.in_features, {1, 64, 256, 90, 130});
  const Statistics statistics = Accumulate(params, rows);
  const Matrix all = testing::Stack(rows);
  const testing::DirectSums actual = testing::ValuesOf(statistics);
  const testing::DirectSums expected = testing::SumDirectly(all);

  EXPECT_EQ(statistics.token_count, 541);
  EXPECT_EQ(statistics.rows.size(), 5);
  const int64_t columns = params.in_features;
  for (int64_t j = 0; j < columns; ++j) {
    ASSERT_NEAR(actual.sum[j], expected.sum[j], 2e-6 * expected.sum_abs[j]) << j;
    ASSERT_NEAR(actual.sum_abs[j], expected.sum_abs[j], 2e-6 * expected.sum_abs[j]) << j;
    float largest = 0;
    for (int64_t t = 0; t < all.rows(); ++t) largest = std::max(largest, std::fabs(all.Row(t)[j]));
    ASSERT_EQ(statistics.max_abs[j], largest) << j;
  }
  const auto tolerance = [&](int64_t i, int64_t j) {
    const double norms = expected.gram[i * columns + i] * expected.gram[j * columns + j];
    return 5e-6 * std::sqrt(norms);  // 2^-22 of a bound that is a few times as large, by row
  };
  if (params.ExactGram()) {
    EXPECT_TRUE(actual.blocks.empty());
    EXPECT_TRUE(actual.sketch.empty());
    ASSERT_EQ(actual.gram.size(), expected.gram.size());
    for (int64_t i = 0; i < columns; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        ASSERT_NEAR(actual.gram[i * columns + j], expected.gram[i * columns + j], tolerance(i, j))
            << i << ", " << j;
        ASSERT_EQ(actual.gram[i * columns + j], actual.gram[j * columns + i]);
      }
    }
    return;
  }
  EXPECT_TRUE(actual.gram.empty());
  const int64_t width = params.block_width;
  ASSERT_EQ(actual.blocks.size(), static_cast<size_t>(params.Blocks() * width * width));
  for (int64_t b = 0; b < params.Blocks(); ++b) {
    for (int64_t i = 0; i < width; ++i) {
      for (int64_t j = 0; j < width; ++j) {
        const double value = actual.blocks[(b * width + i) * width + j];
        ASSERT_EQ(value, actual.blocks[(b * width + j) * width + i]);
        const int64_t row = b * width + i;
        const int64_t column = b * width + j;
        if (row >= columns || column >= columns) {
          ASSERT_EQ(value, 0) << row << ", " << column;
        } else {
          ASSERT_NEAR(value, expected.gram[row * columns + column], tolerance(row, column))
              << row << ", " << column;
        }
      }
    }
  }
}

// Property: sketch = R X and sketch_row_sums = R 1, R by FillSketchSigns.
TEST(SketchTest, IsTheSignedSumOfTokens) {
  const StatisticsParams params = ParamsOf(600);
  const auto rows = testing::MakeRows(2, params.in_features, {70, 256, 300});
  const Statistics statistics = Accumulate(params, rows);
  const testing::DirectSums actual = testing::ValuesOf(statistics);

  const int64_t columns = params.in_features;
  std::vector<double> sketch(params.sketch_rows * columns);
  std::vector<double> row_sums(params.sketch_rows);
  std::vector<double> squares(columns);
  std::vector<float> signs(params.sketch_rows);
  for (const CalibrationRow& row : rows) {
    for (int64_t t = 0; t < row.tokens.rows(); ++t) {
      FillSketchSigns(params.seed, row.index, t, absl::MakeSpan(signs));
      const float* x = row.tokens.Row(t);
      for (int64_t j = 0; j < columns; ++j) squares[j] += static_cast<double>(x[j]) * x[j];
      for (int64_t k = 0; k < params.sketch_rows; ++k) {
        row_sums[k] += signs[k];
        for (int64_t j = 0; j < columns; ++j) sketch[k * columns + j] += signs[k] * x[j];
      }
    }
  }
  EXPECT_EQ(statistics.sketch_row_sums, row_sums);
  ASSERT_EQ(actual.sketch.size(), sketch.size());
  for (int64_t k = 0; k < params.sketch_rows; ++k) {
    for (int64_t j = 0; j < columns; ++j) {
      ASSERT_NEAR(actual.sketch[k * columns + j], sketch[k * columns + j],
                  2e-6 * std::sqrt(squares[j] * 626))
          << k << ", " << j;
    }
  }
}

// Property: the sample is the tokens of smallest hash, as they came.
TEST_P(AgainstDirectSums, SampleIsTheTokensOfSmallestHash) {
  const StatisticsParams params = ParamsOf(GetParam());
  const auto rows = testing::MakeRows(3, params.in_features, {10, 300, 50});
  const Statistics actual = Accumulate(params, rows);
  std::set<TokenSample::Key> keys;
  for (const CalibrationRow& row : rows) {
    for (int64_t t = 0; t < row.tokens.rows(); ++t) {
      keys.insert({SampleHash(params.seed, row.index, t), row.index, t});
    }
  }
  ASSERT_EQ(actual.sample.keys.size(), 32u);
  auto expected = keys.begin();
  for (size_t i = 0; i < actual.sample.keys.size(); ++i, ++expected) {
    ASSERT_EQ(actual.sample.keys[i], *expected);
    const float* token = rows[expected->row].tokens.Row(expected->position);
    ASSERT_EQ(std::memcmp(token, &actual.sample.values[i * params.in_features],
                          params.in_features * sizeof(float)),
              0);
  }
}

INSTANTIATE_TEST_SUITE_P(InFeatures, AgainstDirectSums, ::testing::Values(1, 172, 500, 600));

// E[S^T S / r] = X^T X, with the variance of a +-1 sketch,
// (|x_i|^2 |x_j|^2 + (x_i x_j)^2 - 2 sum_t x_ti^2 x_tj^2) / r.
TEST(SketchTest, EstimatesTheGramOffTheDiagonalWithinItsVariance) {
  StatisticsParams params;
  params.in_features = 1100;
  const auto rows = testing::MakeRows(4, params.in_features, {200, 200});
  const testing::DirectSums statistics = testing::ValuesOf(Accumulate(params, rows));
  const Matrix x = testing::Stack(rows);
  const double r = static_cast<double>(params.sketch_rows);
  double sum = 0;
  double sum_of_squares = 0;
  int64_t pairs = 0;
  for (int64_t i = 0; i < params.in_features; i += 29) {
    for (int64_t j = i + 300; j < params.in_features; j += 7) {
      double ii = 0, jj = 0, ij = 0, iijj = 0, estimate = 0;
      for (int64_t t = 0; t < x.rows(); ++t) {
        const double a = x.Row(t)[i];
        const double b = x.Row(t)[j];
        ii += a * a;
        jj += b * b;
        ij += a * b;
        iijj += a * a * b * b;
      }
      for (int64_t k = 0; k < params.sketch_rows; ++k) {
        estimate += statistics.sketch[k * params.in_features + i] *
                    statistics.sketch[k * params.in_features + j] / r;
      }
      const double z = (estimate - ij) / std::sqrt((ii * jj + ij * ij - 2 * iijj) / r);
      EXPECT_LT(std::abs(z), 6) << i << ", " << j;
      sum += z;
      sum_of_squares += z * z;
      ++pairs;
    }
  }
  ASSERT_GT(pairs, 1000);
  EXPECT_NEAR(sum / static_cast<double>(pairs), 0, 0.1);
  EXPECT_NEAR(sum_of_squares / static_cast<double>(pairs), 1, 0.1);
}

// F16 is multiplied as the f32 that it widens to, so bit for bit; BF16 is multiplied as it is,
// which differs by the order of f32 sums.
TEST(AccumulatedSumsTest, HalfPrecisionAtAnyAlignmentIsItsWidenedValues) {
  const StatisticsParams params = ParamsOf(300);
  auto rows = testing::MakeRows(5, params.in_features, {80});
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    Matrix& x = rows[0].tokens;
    std::vector<uint16_t> halves(x.rows() * x.cols());
    for (size_t i = 0; i < halves.size(); ++i) {
      halves[i] = dtype == DType::kF16 ? F32ToF16(x.data()[i]) : F32ToBF16(x.data()[i]);
      x.data()[i] = dtype == DType::kF16 ? F16ToF32(halves[i]) : BF16ToF32(halves[i]);
    }
    const Statistics expected = Accumulate(params, rows);
    const testing::DirectSums expected_sums = testing::ValuesOf(expected);
    std::vector<int64_t> first_gram;
    for (const size_t shift : {0, 1}) {
      std::vector<std::byte> bytes(shift + halves.size() * 2);
      std::memcpy(bytes.data() + shift, halves.data(), halves.size() * 2);
      SerialExecutor serial;
      StatisticsAccumulator accumulator = MakeAccumulator(params);
      ASSERT_TRUE(accumulator.Fold(0, 0, dtype, bytes.data() + shift, 80, serial).ok());
      const auto actual = std::move(accumulator).Finish(serial);
      ASSERT_TRUE(actual.ok());
      EXPECT_EQ(actual->sample.values, expected.sample.values) << Name(dtype) << shift;
      EXPECT_EQ(actual->max_abs, expected.max_abs) << Name(dtype) << shift;
      if (shift == 0) first_gram = actual->gram;
      EXPECT_EQ(actual->gram, first_gram) << Name(dtype) << shift;
      if (dtype == DType::kF16) {
        EXPECT_EQ(actual->gram, expected.gram) << shift;
        continue;
      }
      const testing::DirectSums actual_sums = testing::ValuesOf(*actual);
      for (int64_t i = 0; i < 300; ++i) {
        ASSERT_NEAR(actual_sums.sum[i], expected_sums.sum[i], 1e-6 * expected_sums.sum_abs[i]) << i;
        for (int64_t j = 0; j < 300; ++j) {
          const double norms = expected_sums.gram[i * 301] * expected_sums.gram[j * 301];
          ASSERT_NEAR(actual_sums.gram[i * 300 + j], expected_sums.gram[i * 300 + j],
                      2e-6 * std::sqrt(norms))
              << i << ", " << j;
        }
      }
    }
  }
}

// Property: where every sum is a whole number that f32 holds, all dtypes give it exactly.
TEST(AccumulatedSumsTest, WholeNumbersAddUpExactlyInEveryDType) {
  for (const int64_t columns : {40, 500, 600}) {
    const StatisticsParams params = ParamsOf(columns);
    auto rows = testing::MakeRows(9, columns, {1, 300, 600});
    for (CalibrationRow& row : rows) {
      for (int64_t i = 0; i < row.tokens.rows() * columns; ++i) {
        row.tokens.data()[i] = std::round(std::fmod(row.tokens.data()[i], 9.0f));
      }
    }
    const Matrix all = testing::Stack(rows);
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      SerialExecutor serial;
      StatisticsAccumulator accumulator = MakeAccumulator(params);
      for (const CalibrationRow& row : rows) {
        const std::vector<std::byte> bytes = testing::BytesOf(row.tokens, dtype);
        ASSERT_TRUE(
            accumulator.FoldRow(row.index, dtype, bytes.data(), row.tokens.rows(), serial).ok());
      }
      const auto statistics = std::move(accumulator).Finish(serial);
      ASSERT_TRUE(statistics.ok()) << statistics.status();
      const testing::DirectSums actual = testing::ValuesOf(*statistics);
      std::vector<float> signs(params.sketch_rows);
      for (int64_t i = 0; i < columns; i += 17) {
        double sum = 0;
        double sum_abs = 0;
        std::vector<double> products(columns);
        std::vector<double> sketch(params.sketch_rows);
        int64_t token = 0;
        for (const CalibrationRow& row : rows) {
          for (int64_t t = 0; t < row.tokens.rows(); ++t, ++token) {
            const float* x = all.Row(token);
            sum += x[i];
            sum_abs += std::fabs(x[i]);
            for (int64_t j = 0; j < columns; ++j) products[j] += x[i] * x[j];
            if (params.ExactGram() || i % 5 != 0) continue;
            FillSketchSigns(params.seed, row.index, t, absl::MakeSpan(signs));
            for (size_t k = 0; k < signs.size(); ++k) sketch[k] += signs[k] * x[i];
          }
        }
        ASSERT_EQ(actual.sum[i], sum) << i;
        ASSERT_EQ(actual.sum_abs[i], sum_abs) << i;
        for (int64_t j = 0; j < columns; ++j) {
          if (params.ExactGram()) {
            ASSERT_EQ(actual.gram[i * columns + j], products[j]) << Name(dtype) << i << ", " << j;
          } else if (i / 256 == j / 256) {
            ASSERT_EQ(actual.blocks[(i * 256) + j % 256], products[j])
                << Name(dtype) << i << ", " << j;
          }
        }
        if (params.ExactGram() || i % 5 != 0) continue;
        for (int64_t k = 0; k < params.sketch_rows; ++k) {
          ASSERT_EQ(actual.sketch[k * columns + i], sketch[k]) << Name(dtype) << k << ", " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace salient
