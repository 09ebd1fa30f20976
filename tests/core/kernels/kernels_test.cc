// Every kernel against a plain loop.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/kernels/error_kernels.h"
#include "core/kernels/panel_kernels.h"
#include "core/kernels/round_kernels.h"
#include "core/kernels/sum_kernels.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"

namespace salient {
namespace {

using testing::GaussianMatrix;

// Odd lengths reach the vector body and the tail.
constexpr int64_t kKernelLengths[] = {1, 7, 16, 33, 259};

TEST(KernelsTest, WidenF16AgreesWithTheScalarConversionOnEveryPattern) {
  std::vector<uint16_t> bits(1 << 16);
  std::iota(bits.begin(), bits.end(), 0);
  std::vector<float> wide(bits.size());
  WidenF16(bits.data(), static_cast<int64_t>(bits.size()), wide.data());
  for (size_t i = 0; i < bits.size(); ++i) {
    const float expected = F16ToF32(bits[i]);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(wide[i])) << i;
    } else {
      EXPECT_EQ(wide[i], expected) << i;
    }
  }
}

TEST(KernelsTest, MinMaxFindsTheEndsWhereverTheyStand) {
  for (int64_t n : kKernelLengths) {
    for (int64_t at = 0; at < n; ++at) {
      Matrix w = GaussianMatrix(2, 1, n);
      w.data()[at] = -100;
      w.data()[n - 1 - at] = n == 2 * at + 1 ? -100.0f : 100.0f;
      const auto [lo, hi] = MinMax(w.data(), n);
      EXPECT_EQ(lo, *std::min_element(w.data(), w.data() + n));
      EXPECT_EQ(hi, *std::max_element(w.data(), w.data() + n));
    }
  }
}

TEST(KernelsTest, StepOfReachesTheLargestInMostSteps) {
  EXPECT_EQ(StepOf(std::vector<float>{1, -254, 3}.data(), 3), 2.0f);
  EXPECT_EQ(StepOf(std::vector<float>{12.7f, 5}.data(), 2), 12.7f / 127);
  for (const float little : {0.0f, 1e-44f, -1e-6f}) EXPECT_EQ(StepOf(&little, 1), 0x1p-23f);
}

TEST(KernelsTest, RoundToStepsKeepsWhatSignedCodesOfEightBitsHold) {
  for (int64_t n : kKernelLengths) {
    for (const float step : {0.5f, 0.3f, 1e-3f, 7.0f}) {
      Matrix values = GaussianMatrix(9, 1, n, 20.0f);
      for (int64_t i = 0; i < n; i += 5) values.data()[i] = step * (static_cast<float>(i) + 0.5f);
      values.data()[n / 2] = n % 2 == 0 ? INFINITY : -INFINITY;
      Matrix rounded = GaussianMatrix(9, 1, n, 20.0f);
      std::copy_n(values.data(), n, rounded.data());
      RoundToSteps(step, n, rounded.data());
      for (int64_t i = 0; i < n; ++i) {
        const float value = values.data()[i];
        const float code = std::clamp(std::nearbyint(value / step), -128.0f, 127.0f);
        EXPECT_EQ(rounded.data()[i], std::isinf(value) ? value : code * step) << value;
      }
    }
  }
  float nan = NAN;
  RoundToSteps(1.0f, 1, &nan);
  EXPECT_TRUE(std::isnan(nan));
}

TEST(KernelsTest, NearestCodesAndErrorsRoundHalfToEvenAndClamp) {
  const Affine affine{0.25f, 7, 15};
  // Halves of a step on both sides, and values beyond both ends.
  const std::vector<float> w = {0.125f, 0.375f, -0.125f, -0.375f, 99,     -99,
                                0,      0.3f,   -1.75f,  2.0f,    2.1f,   1.9f,
                                0.625f, 1e-30f, -0.0f,   1.0f,    0.874f, 0.876f};
  const int64_t n = static_cast<int64_t>(w.size());
  std::vector<uint8_t> codes(w.size());
  std::vector<float> errors(w.size());
  NearestCodes(w.data(), n, affine, codes.data());
  NearestErrors(w.data(), n, affine, errors.data());
  for (size_t i = 0; i < w.size(); ++i) {
    const float code = std::clamp(std::nearbyint(w[i] / 0.25f) + 7, 0.0f, 15.0f);
    EXPECT_EQ(codes[i], static_cast<uint8_t>(code)) << w[i];
    EXPECT_EQ(errors[i], 0.25f * (code - 7) - w[i]) << w[i];
  }
}

TEST(KernelsTest, DotAddsInF64) {
  for (int64_t n : kKernelLengths) {
    const Matrix a = GaussianMatrix(3, 1, n, 1e4f);
    const Matrix b = GaussianMatrix(4, 1, n, 1e-4f);
    double expected = 0;
    double magnitude = 0;
    for (int64_t i = 0; i < n; ++i) {
      expected += double{a.data()[i]} * b.data()[i];
      magnitude += std::abs(double{a.data()[i]} * b.data()[i]);
    }
    EXPECT_NEAR(Dot(a.data(), b.data(), n), expected, 1e-14 * magnitude);
  }
}

TEST(KernelsTest, OffsetErrorsAndAddScaledAreTheirFormulas) {
  for (int64_t n : kKernelLengths) {
    const Matrix w = GaussianMatrix(3, 1, n);
    const Matrix codes = GaussianMatrix(4, 1, n, 8);
    Matrix errors(1, n);
    OffsetErrors(w.data(), codes.data(), 0.3f, n, errors.data());
    Matrix sum = GaussianMatrix(5, 1, n);
    const Matrix before = GaussianMatrix(5, 1, n);
    AddScaled(w.data(), -0.7f, n, sum.data());
    for (int64_t i = 0; i < n; ++i) {
      const volatile float decoded = 0.3f * codes.data()[i];
      EXPECT_EQ(errors.data()[i], decoded - w.data()[i]);
      EXPECT_NEAR(sum.data()[i], before.data()[i] - 0.7f * w.data()[i], 1e-6);
    }
  }
}

TEST(KernelsTest, DecodedErrorsRoundAfterEachStep) {
  for (int64_t n : kKernelLengths) {
    const Matrix w = GaussianMatrix(3, 1, n);
    const Matrix inverse = GaussianMatrix(4, 1, n);
    std::vector<uint8_t> codes(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<uint8_t>(37 * i);
    Matrix errors = GaussianMatrix(3, 1, n);
    DecodedErrors(codes.data(), n, 0.3f, 131, inverse.data(), errors.data());
    for (int64_t i = 0; i < n; ++i) {
      const volatile float decoded = 0.3f * static_cast<float>(codes[i] - 131);
      const volatile float unscaled = decoded * inverse.data()[i];
      EXPECT_EQ(errors.data()[i], unscaled - w.data()[i]) << i;
    }
  }
}

}  // namespace
}  // namespace salient
