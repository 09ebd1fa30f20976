#include "core/linalg/gemm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"

namespace salient {
namespace {

TEST(GemmTest, EveryTranspositionAndAccumulationIsTheMatrixProduct) {
  constexpr int64_t kM = 19, kN = 34, kK = 27;
  for (Op op_a : {Op::kPlain, Op::kTransposed}) {
    for (Op op_b : {Op::kPlain, Op::kTransposed}) {
      for (float beta : {0.0f, 1.0f}) {
        // Wider rows than needed: strides count.
        const Matrix a = testing::GaussianMatrix(1, 40, 40);
        const Matrix b = testing::GaussianMatrix(2, 40, 40);
        Matrix c = testing::GaussianMatrix(3, 40, 40);
        const Matrix before = testing::GaussianMatrix(3, 40, 40);
        ASSERT_TRUE(
            Gemm(op_a, op_b, kM, kN, kK, a.data(), 40, b.data(), 40, beta, c.data(), 40).ok());
        for (int64_t i = 0; i < 40; ++i) {
          for (int64_t j = 0; j < 40; ++j) {
            double expected = before.Row(i)[j];
            if (i < kM && j < kN) {
              expected *= beta;
              for (int64_t k = 0; k < kK; ++k) {
                expected += double{op_a == Op::kPlain ? a.Row(i)[k] : a.Row(k)[i]} *
                            (op_b == Op::kPlain ? b.Row(k)[j] : b.Row(j)[k]);
              }
            }
            ASSERT_NEAR(c.Row(i)[j], expected, 1e-4) << i << ", " << j;
          }
        }
      }
    }
  }
}

std::vector<uint16_t> ToBf16(const Matrix& matrix) {
  std::vector<uint16_t> bits(static_cast<size_t>(matrix.rows() * matrix.cols()));
  std::transform(matrix.data(), matrix.data() + bits.size(), bits.begin(), F32ToBF16);
  return bits;
}

// m, n, k, and how much longer the rows of all are than they need be, so that strides count.
TEST(GemmTest, Bf16ProductsAreThoseOfTheWidenedFactors) {
  for (const auto& [m, n, k, gap] : {std::array<int64_t, 4>{19, 34, 27, 226},
                                     {19, 34, 27, 0},
                                     {1, 1, 1, 259},
                                     {1, 1, 1, 0},
                                     {64, 256, 256, 4},
                                     {64, 256, 256, 0},
                                     {130, 96, 65, 33},
                                     {130, 96, 65, 0}}) {
    const int64_t deep = k + gap;
    const int64_t wide = n + gap;
    const std::vector<uint16_t> a = ToBf16(testing::GaussianMatrix(1, m, deep));
    const std::vector<uint16_t> b = ToBf16(testing::GaussianMatrix(2, n, deep));
    const auto factor = Bf16Factor::Create(b.data(), n, k, deep);
    ASSERT_TRUE(factor.ok()) << factor.status();
    for (const float beta : {0.0f, 1.0f}) {
      const Matrix before = testing::GaussianMatrix(3, m, wide);
      Matrix plain = testing::GaussianMatrix(3, m, wide);
      Matrix packed = testing::GaussianMatrix(3, m, wide);
      ASSERT_TRUE(GemmBf16(m, n, k, a.data(), deep, b.data(), deep, beta, plain.data(), wide).ok());
      ASSERT_TRUE(factor->Multiply(m, a.data(), deep, beta, packed.data(), wide).ok());
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < wide; ++j) {
          double expected = before.Row(i)[j];
          double magnitude = std::abs(expected);
          for (int64_t l = 0; j < n && l < k; ++l) {
            const double product = double{BF16ToF32(a[static_cast<size_t>(i * deep + l)])} *
                                   BF16ToF32(b[static_cast<size_t>(j * deep + l)]);
            expected = (l == 0 ? beta * expected : expected) + product;
            magnitude += std::abs(product);
          }
          ASSERT_NEAR(plain.Row(i)[j], expected, 1e-6 * magnitude) << i << ", " << j;
          ASSERT_NEAR(packed.Row(i)[j], expected, 1e-6 * magnitude) << i << ", " << j;
        }
      }
    }
  }
}

TEST(GemmTest, VersionAndPathAreNamed) {
  EXPECT_FALSE(OneDnnVersion().empty());
  EXPECT_FALSE(InstructionPath().empty());
}

}  // namespace
}  // namespace salient
