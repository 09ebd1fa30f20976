// Every kernel of the searches against a plain loop, and the quadratic form on top of them.
#include "core/kernels/search_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/kernels/search_sum_kernels.h"
#include "core/linalg/quadratic_form.h"
#include "core/parallel/executor.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"

namespace salient {
namespace {

using testing::GaussianMatrix;

std::vector<uint16_t> Bf16(const Matrix& values) {
  std::vector<uint16_t> bits(static_cast<size_t>(values.rows() * values.cols()));
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = F32ToBF16(values.data()[i]);
  return bits;
}

TEST(SearchKernelsTest, ScaledMinMaxFindsTheEndsOfEveryGroup) {
  for (int64_t size : {5, 16, 50, 128}) {
    const Matrix w = GaussianMatrix(1, 1, 3 * size);
    const Matrix s = GaussianMatrix(2, 1, 3 * size);
    std::vector<float> lo(3), hi(3);
    ScaledMinMax(w.data(), s.data(), 3, size, lo.data(), hi.data());
    for (int64_t g = 0; g < 3; ++g) {
      float least = std::numeric_limits<float>::infinity(), most = -least;
      for (int64_t j = g * size; j < (g + 1) * size; ++j) {
        least = std::min(least, w.data()[j] * s.data()[j]);
        most = std::max(most, w.data()[j] * s.data()[j]);
      }
      EXPECT_EQ(lo[g], least);
      EXPECT_EQ(hi[g], most);
    }
  }
}

class RoundPanelTest : public ::testing::TestWithParam<int64_t> {};

// Twin: the definition in f64 on maps of which every quotient is far from a tie.
TEST_P(RoundPanelTest, ErrorsAndTheirSumsAreTheDefinition) {
  constexpr int64_t kRows = 6, kRepeats = 2, kColumns = 300, kBegin = 40, kWidth = 200;
  const int64_t size = GetParam();
  const int64_t groups = kColumns / size;
  const Matrix w = GaussianMatrix(3, kRows / kRepeats, kColumns);
  Matrix s = GaussianMatrix(4, 1, kColumns);
  Matrix inverse(1, kColumns);
  for (int64_t j = 0; j < kColumns; ++j) {
    s.data()[j] = 0.5f + std::abs(s.data()[j]);
    inverse.data()[j] = 1 / s.data()[j];
  }
  const Matrix diagonal = GaussianMatrix(5, 1, kColumns);
  const Matrix mean = GaussianMatrix(6, 1, kColumns);
  Matrix scales(kRows, groups), zero_points(kRows, groups);
  std::mt19937 random(7);
  for (int64_t i = 0; i < kRows * groups; ++i) {
    scales.data()[i] = 0.1f + 0.01f * static_cast<float>(random() % 20);
    zero_points.data()[i] = static_cast<float>(random() % 16);
  }
  RoundingPanel panel;
  panel.rows = kRows;
  panel.columns = kWidth;
  panel.w = w.data() + kBegin;
  panel.w_stride = kColumns;
  panel.repeats = kRepeats;
  panel.s = s.data() + kBegin;
  panel.inverse_s = inverse.data() + kBegin;
  panel.scales = scales.data();
  panel.zero_points = zero_points.data();
  panel.maps_stride = groups;
  panel.begin = kBegin;
  panel.group_size = size;
  panel.diagonal = diagonal.data() + kBegin;
  panel.mean = mean.data() + kBegin;
  std::vector<uint16_t> errors(kRows * kWidth);
  std::vector<double> squares(kRows, 1.0), shifts(kRows, 2.0);
  RoundPanel(panel, errors.data(), squares.data(), shifts.data());
  std::vector<double> squares_alone(kRows, 1.0), shifts_alone(kRows, 2.0);
  RoundPanel(panel, nullptr, squares_alone.data(), shifts_alone.data());
  EXPECT_EQ(squares, squares_alone);
  EXPECT_EQ(shifts, shifts_alone);
  for (int64_t t = 0; t < kRows; ++t) {
    double square = 1, shift = 2, magnitude = 0;
    for (int64_t j = kBegin; j < kBegin + kWidth; ++j) {
      const double scale = scales.Row(t)[j / size];
      const double zero_point = zero_points.Row(t)[j / size];
      const double v = double{w.Row(t / kRepeats)[j]} * s.data()[j];
      const double code = std::clamp(std::nearbyint(v / scale) + zero_point, 0.0, 15.0);
      const double error = (scale * (code - zero_point) - v) / s.data()[j];
      const float written = BF16ToF32(errors[t * kWidth + j - kBegin]);
      EXPECT_NEAR(written, error, std::abs(error) / 256 + 1e-6) << t << ", " << j;
      square += diagonal.data()[j] * error * error;
      shift += mean.data()[j] * error;
      magnitude += std::abs(diagonal.data()[j]) * error * error + std::abs(mean.data()[j] * error);
    }
    EXPECT_NEAR(squares[t], square, 1e-5 * magnitude);
    EXPECT_NEAR(shifts[t], shift, 1e-5 * magnitude);
  }
}

INSTANTIATE_TEST_SUITE_P(GroupSizes, RoundPanelTest, ::testing::Values(10, 20, 60, 100, 150, 300));

TEST(SearchKernelsTest, NarrowToBf16RoundsHalfToEven) {
  Matrix values = GaussianMatrix(8, 1, 259);
  values.data()[0] = 1 + 0x1p-8f;      // a tie, down to even
  values.data()[1] = 1 + 3 * 0x1p-8f;  // a tie, up to even
  values.data()[2] = -0.0f;
  values.data()[3] = 0x1p-140f;
  std::vector<uint16_t> bits(259);
  NarrowToBf16(values.data(), 259, 2.0f, bits.data());
  for (int64_t i = 0; i < 259; ++i) EXPECT_EQ(bits[i], F32ToBF16(2 * values.data()[i])) << i;
}

TEST(SearchKernelsTest, RowDotsAddProductsWithBf16) {
  const Matrix a = GaussianMatrix(9, 5, 70);
  const Matrix b = GaussianMatrix(10, 5, 41);
  const std::vector<uint16_t> bits = Bf16(b);
  std::vector<double> sums(5, 3.0);
  AddRowDots(a.data(), 70, bits.data(), 41, 5, 41, sums.data());
  for (int64_t t = 0; t < 5; ++t) {
    double expected = 3;
    for (int64_t j = 0; j < 41; ++j) {
      expected += double{a.Row(t)[j]} * BF16ToF32(bits[t * 41 + j]);
    }
    EXPECT_NEAR(sums[t], expected, 1e-4);
  }
}

TEST(SearchKernelsTest, ColumnSquaresAddOverRows) {
  for (int64_t columns : {1, 16, 37, 256}) {
    const Matrix a = GaussianMatrix(11, 9, columns);
    Matrix total = GaussianMatrix(12, 9, columns);
    const Matrix before = GaussianMatrix(12, 9, columns);
    std::vector<double> sums(static_cast<size_t>(columns), 0.5);
    AddColumnSquares(a.data(), 9, columns, total.data(), sums.data());
    std::vector<double> alone(static_cast<size_t>(columns), 0.5);
    AddColumnSquares(a.data(), 9, columns, nullptr, alone.data());
    EXPECT_EQ(sums, alone);
    for (int64_t k = 0; k < columns; ++k) {
      double expected = 0.5;
      for (int64_t t = 0; t < 9; ++t) {
        expected += double{a.Row(t)[k]} * a.Row(t)[k];
        EXPECT_EQ(total.Row(t)[k], before.Row(t)[k] + a.Row(t)[k]);
      }
      EXPECT_NEAR(sums[k], expected, 1e-5 * expected);
    }
  }
}

TEST(SearchKernelsTest, RelativeMagnitudesAreSharesOfTheLargestOfTheGroup) {
  for (int64_t size : {7, 16, 50}) {
    Matrix w = GaussianMatrix(13, 1, 3 * size);
    for (int64_t j = size; j < 2 * size; ++j) w.data()[j] = 0;
    std::vector<double> sums(static_cast<size_t>(3 * size), 0.25);
    AddRelativeMagnitudes(w.data(), 3, size, 0, sums.data());
    for (int64_t g = 0; g < 3; ++g) {
      double largest = 0;
      for (int64_t j = g * size; j < (g + 1) * size; ++j) {
        largest = std::max(largest, std::abs(double{w.data()[j]}));
      }
      for (int64_t j = g * size; j < (g + 1) * size; ++j) {
        const double share = largest > 0 ? std::abs(double{w.data()[j]}) / largest : 0;
        EXPECT_NEAR(sums[j], 0.25 + share, 1e-14);
      }
    }
  }
}

TEST(QuadraticFormTest, IsTheSumOffTheDiagonal) {
  for (int64_t n : {20, 64, 150}) {
    constexpr int64_t kRows = 5, kPiece = 64;
    const Matrix x = testing::Activations(14, 200, n);
    Matrix h(n, n);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t t = 0; t < 200; ++t) h.Row(i)[j] += x.Row(t)[i] * x.Row(t)[j] / 200;
      }
    }
    SerialExecutor serial;
    const absl::StatusOr<QuadraticForm> form = QuadraticForm::Create(h.View(), kPiece, serial);
    ASSERT_TRUE(form.ok()) << form.status();
    Matrix d = GaussianMatrix(15, kRows, n);
    std::vector<uint16_t> pieces;
    for (int64_t first = 0; first < n; first += kPiece) {
      for (int64_t t = 0; t < kRows; ++t) {
        for (int64_t j = first; j < std::min(n, first + kPiece); ++j) {
          pieces.push_back(F32ToBF16(d.Row(t)[j]));
          d.Row(t)[j] = BF16ToF32(pieces.back());
        }
      }
    }
    Matrix product(kRows, n);
    std::vector<double> sums(kRows, 0.0);
    ASSERT_TRUE(form->Add(kRows, pieces.data(), product.data(), sums.data()).ok());
    for (int64_t t = 0; t < kRows; ++t) {
      double expected = 0, magnitude = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          if (i == j) continue;
          const double rounded = BF16ToF32(F32ToBF16(h.Row(i)[j]));
          expected += d.Row(t)[i] * rounded * d.Row(t)[j];
          magnitude += std::abs(d.Row(t)[i] * rounded * d.Row(t)[j]);
        }
      }
      EXPECT_NEAR(sums[t], expected, 1e-6 * magnitude) << n << " columns, row " << t;
    }
  }
}

}  // namespace
}  // namespace salient
