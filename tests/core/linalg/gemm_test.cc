#include "core/linalg/gemm.h"

#include <cmath>

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

TEST(GemmTest, VersionAndPathAreNamed) {
  EXPECT_FALSE(OneDnnVersion().empty());
  EXPECT_FALSE(InstructionPath().empty());
}

}  // namespace
}  // namespace salient
