#include "core/linalg/cholesky.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

// X^T X / n plus `damping` on the diagonal, from fewer tokens than columns.
Matrix Damped(int64_t n, float damping) {
  const Matrix x = testing::Activations(3, std::max<int64_t>(4, n / 2), n);
  Matrix a(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = i == j ? damping * static_cast<double>(x.rows()) : 0;
      for (int64_t t = 0; t < x.rows(); ++t) sum += double{x.Row(t)[i]} * x.Row(t)[j];
      a.Row(i)[j] = static_cast<float>(sum / static_cast<double>(x.rows()));
    }
  }
  return a;
}

Matrix Copy(const Matrix& a) {
  Matrix copy(a.rows(), a.cols());
  std::memcpy(copy.data(), a.data(), static_cast<size_t>(a.rows() * a.cols()) * sizeof(float));
  return copy;
}

// R whole, in f64: its diagonal blocks by inverting those of U again, by back substitution.
std::vector<double> WholeR(const UpperFactor& factor, int64_t n) {
  std::vector<double> r(static_cast<size_t>(n * n), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = (i / kFactorBlock + 1) * kFactorBlock; j < n; ++j) {
      r[i * n + j] = factor.r.Row(i)[j];
    }
  }
  for (size_t b = 0; b < factor.inverses.size(); ++b) {
    const Matrix& u = factor.inverses[b];
    const int64_t begin = static_cast<int64_t>(b) * kFactorBlock;
    for (int64_t j = 0; j < u.cols(); ++j) {
      for (int64_t i = j; i >= 0; --i) {
        double sum = i == j ? 1 : 0;
        for (int64_t k = i + 1; k <= j; ++k) {
          sum -= double{u.Row(i)[k]} * r[(begin + k) * n + begin + j];
        }
        r[(begin + i) * n + begin + j] = sum / u.Row(i)[i];
      }
    }
  }
  return r;
}

class UpperCholeskyTest : public ::testing::TestWithParam<int64_t> {};

// Property: R is upper triangular and R R^T = A, to what f32 can tell.
TEST_P(UpperCholeskyTest, FactorTimesItsTransposeIsTheMatrix) {
  const int64_t n = GetParam();
  const Matrix a = Damped(n, 0.05f);
  SerialExecutor serial;
  const absl::StatusOr<UpperFactor> factor = UpperCholesky(Copy(a), 0, serial);
  ASSERT_TRUE(factor.ok()) << factor.status();
  const std::vector<double> r = WholeR(*factor, n);
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_GT(r[i * n + i], 0);
    for (int64_t j = i; j < n; ++j) {
      double sum = 0;
      for (int64_t k = j; k < n; ++k) sum += r[i * n + k] * r[j * n + k];
      const double size = std::sqrt(double{a.Row(i)[i]} * a.Row(j)[j]);
      ASSERT_NEAR(sum, a.Row(i)[j], 3e-6 * size) << i << ", " << j;
    }
  }
}

TEST_P(UpperCholeskyTest, BytesDoNotDependOnTheExecutorNorOnWhatIsBelowTheDiagonal) {
  const int64_t n = GetParam();
  Matrix a = Damped(n, 0.05f);
  SerialExecutor serial;
  const absl::StatusOr<UpperFactor> one = UpperCholesky(Copy(a), 0, serial);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) a.Row(i)[j] = 1e30f;
  }
  testing::ThreadExecutor threads(3);
  const absl::StatusOr<UpperFactor> three = UpperCholesky(std::move(a), 0, threads);
  ASSERT_TRUE(one.ok() && three.ok());
  EXPECT_EQ(WholeR(*one, n), WholeR(*three, n));
}

INSTANTIATE_TEST_SUITE_P(Sizes, UpperCholeskyTest, ::testing::Values(1, 5, 128, 131, 300, 517));

TEST(UpperCholeskyErrorsTest, IndefiniteOrSingularMatrixIsRefused) {
  SerialExecutor serial;
  Matrix indefinite = Damped(200, 0.05f);
  indefinite.Row(77)[77] = -1;
  const auto negative = UpperCholesky(std::move(indefinite), 0, serial);
  EXPECT_EQ(negative.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(negative.status().message()).find("columns 0 to 128"), std::string::npos)
      << negative.status();
  // The rank is 100, so that the pivots beyond are nothing but rounding.
  EXPECT_EQ(UpperCholesky(Damped(200, 0.0f), 1e-5, serial).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(UpperCholeskyErrorsTest, PivotsBelowTheLeastAreRefused) {
  SerialExecutor serial;
  Matrix diagonal(3, 3);
  for (int64_t i = 0; i < 3; ++i) diagonal.Row(i)[i] = static_cast<float>(i + 2);
  EXPECT_TRUE(UpperCholesky(Copy(diagonal), 1.5, serial).ok());
  EXPECT_EQ(UpperCholesky(Copy(diagonal), 2, serial).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(UpperCholeskyErrorsTest, IsCancelledBetweenPanels) {
  testing::ThreadExecutor threads(2);
  threads.Cancel();
  EXPECT_EQ(UpperCholesky(Damped(300, 0.05f), 0, threads).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(CholeskyTest, FactorTimesItselfInvertsTheMatrix) {
  constexpr int64_t kN = 23;
  const Matrix x = testing::Activations(11, 80, kN);
  std::vector<double> a(kN * kN, 0);
  for (int64_t i = 0; i < kN; ++i) {
    for (int64_t j = 0; j < kN; ++j) {
      for (int64_t t = 0; t < 80; ++t) a[i * kN + j] += double{x.Row(t)[i]} * x.Row(t)[j];
    }
  }
  const absl::StatusOr<std::vector<double>> u = InverseUpperCholesky(a, kN);
  ASSERT_TRUE(u.ok()) << u.status();
  for (int64_t i = 0; i < kN; ++i) {
    for (int64_t j = 0; j < i; ++j) EXPECT_EQ((*u)[i * kN + j], 0);
    for (int64_t j = 0; j < kN; ++j) {  // (U^T U A)_ij
      double sum = 0;
      for (int64_t k = 0; k < kN; ++k) {
        double uu = 0;
        for (int64_t m = 0; m < kN; ++m) uu += (*u)[m * kN + i] * (*u)[m * kN + k];
        sum += uu * a[k * kN + j];
      }
      EXPECT_NEAR(sum, i == j ? 1 : 0, 1e-7);
    }
  }
}

TEST(CholeskyTest, IndefiniteMatrixIsRefusedByPivot) {
  const absl::StatusOr<std::vector<double>> u = InverseUpperCholesky({1, 2, 2, 1}, 2);
  EXPECT_EQ(u.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace salient
