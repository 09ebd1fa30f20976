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

// Rows of the factors are longer than the product is deep, so that strides count.
TEST(GemmTest, Bf16ProductsAreThoseOfTheWidenedFactors) {
  for (const auto& [m, n, k] :
       {std::array<int64_t, 3>{19, 34, 27}, {1, 1, 1}, {64, 256, 256}, {130, 96, 65}}) {
    constexpr int64_t kStride = 260;
    const std::vector<uint16_t> a = ToBf16(testing::GaussianMatrix(1, m, kStride));
    const std::vector<uint16_t> b = ToBf16(testing::GaussianMatrix(2, n, kStride));
    const auto factor = Bf16Factor::Create(b.data(), n, k, kStride);
    ASSERT_TRUE(factor.ok()) << factor.status();
    for (const float beta : {0.0f, 1.0f}) {
      const Matrix before = testing::GaussianMatrix(3, m, kStride);
      Matrix plain = testing::GaussianMatrix(3, m, kStride);
      Matrix packed = testing::GaussianMatrix(3, m, kStride);
      ASSERT_TRUE(
          GemmBf16(m, n, k, a.data(), kStride, b.data(), kStride, beta, plain.data(), kStride)
              .ok());
      ASSERT_TRUE(factor->Multiply(m, a.data(), kStride, beta, packed.data(), kStride).ok());
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < kStride; ++j) {
          double expected = before.Row(i)[j];
          double magnitude = std::abs(expected);
          for (int64_t l = 0; j < n && l < k; ++l) {
            const double product = double{BF16ToF32(a[static_cast<size_t>(i * kStride + l)])} *
                                   BF16ToF32(b[static_cast<size_t>(j * kStride + l)]);
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
