#include "core/method/ranges.h"

#include <cmath>
#include <random>
#include <vector>

#include "core/kernels/search_kernels.h"
#include "core/method/round_nearest.h"
#include "core/parallel/executor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/matrix_view.h"

namespace salient {
namespace {

// Property (ranges.h): the range includes 0, the scale is representable, and no weight inside
// the range moves by more than half a step plus what rounding the scale takes away.
TEST(RangesTest, NoWeightMovesByMoreThanHalfAStep) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<float> exponent(-10, 10);
  for (int trial = 0; trial < 20000; ++trial) {
    WeightFormat format;
    format.bits = 2 + static_cast<int>(random() % 7);
    format.symmetric = random() % 2 == 0;
    const float magnitude = std::exp2(exponent(random));
    const Matrix w = testing::GaussianMatrix(random(), 1, 16, magnitude);
    float lo = 0, hi = 0;
    for (int64_t k = 0; k < 16; ++k) {
      lo = std::min(lo, w.data()[k]);
      hi = std::max(hi, w.data()[k]);
    }
    const Affine affine = FitAffine(lo, hi, 1.0f, format);
    EXPECT_EQ(affine.scale, RoundToF16(affine.scale));
    EXPECT_EQ(affine.zero_point, std::nearbyint(affine.zero_point));
    const float top = affine.scale * static_cast<float>(format.MaxCode());
    // The rounded scale may span a little less, the rounded zero point shifts by half a step.
    const float slack = affine.scale * 1.01f + std::abs(top - (hi - lo));
    for (int64_t k = 0; k < 16; ++k) {
      const float code =
          std::min(std::max(std::nearbyint(w.data()[k] / affine.scale) + affine.zero_point, 0.0f),
                   affine.max_code);
      const float decoded = affine.scale * (code - affine.zero_point);
      const bool clamped = code == 0 || code == affine.max_code;
      EXPECT_LE(std::abs(decoded - w.data()[k]), clamped ? slack : affine.scale * 0.5001f);
    }
  }
}

TEST(RangesTest, OneSidedGroupsKeepZeroInRange) {
  const Affine positive = FitAffine(0.010f, 0.012f, 1.0f, {});
  EXPECT_EQ(positive.zero_point, 0);
  EXPECT_NEAR(positive.scale * 15, 0.012, 1e-5);
  const Affine negative = FitAffine(-0.012f, -0.010f, 1.0f, {});
  EXPECT_EQ(negative.zero_point, 15);
}

TEST(RangesTest, AnEmptyRangeHasScaleOne) {
  const Affine affine = FitAffine(0, 0, 1.0f, {});
  EXPECT_EQ(affine.scale, 1.0f);
  EXPECT_EQ(affine.zero_point, 0.0f);
}

// However small a range, an F16 scale is not 0 and cuts off less than a code.
TEST(RangesTest, ScalesThatF16HoldsBadlyCutOffLessThanACode) {
  for (const int bits : {2, 4, 8}) {
    for (const bool symmetric : {false, true}) {
      for (int exponent = -60; exponent < -8; ++exponent) {
        for (const float mantissa : {1.0f, 1.2f, 1.45f, 1.9f}) {
          const WeightFormat format{bits, 128, symmetric, DType::kF16};
          const float high = std::ldexp(mantissa, exponent);
          const Affine affine = FitAffine(-high / 2, high, 1.0f, format);
          ASSERT_GT(affine.scale, 0) << high;
          ASSERT_EQ(affine.scale, RoundToF16(affine.scale));
          const float width = symmetric ? 2 * high : 1.5f * high;
          ASSERT_GE(affine.scale * (affine.max_code + 1), width) << high;
          ASSERT_LE(affine.scale,
                    std::max(kLeastF16, 1.001f * width / affine.max_code + kLeastF16));
        }
      }
    }
  }
}

TEST(RangesTest, SymmetricDivisorIsHalfTheCodes) {
  WeightFormat format;
  format.symmetric = true;
  const Affine affine = FitAffine(-1.5f, 0.5f, 1.0f, format);
  EXPECT_EQ(affine.scale, RoundToF16(1.5f / 7.5f));
  EXPECT_EQ(affine.zero_point, 8);
}

TEST(RangesTest, ScaleBeyondF16NamesRowAndGroup) {
  Matrix w = testing::GaussianMatrix(2, 4, 16);
  w.Row(3)[9] = 1e7f;
  WeightFormat format;
  format.group_size = 8;
  SerialExecutor executor;
  const std::vector<float> ones(16, 1.0f);
  const absl::Status status = RangeMinMax(testing::View(w), ones, format, false, executor).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("row 3, group 1"), absl::string_view::npos) << status;
}

TEST(RoundNearestTest, CodesAreThoseOfTheScaledWeight) {
  const Matrix w = testing::GaussianMatrix(3, 5, 32);
  std::vector<float> scales(32);
  for (int j = 0; j < 32; ++j) scales[j] = 0.5f + 0.125f * static_cast<float>(j % 7);
  WeightFormat format;
  format.group_size = 16;
  SerialExecutor executor;
  const auto ranges = RangeMinMax(testing::View(w), scales, format, false, executor);
  ASSERT_TRUE(ranges.ok()) << ranges.status();
  const auto groups = RoundNearest(testing::View(w), scales, *ranges, format, executor);
  ASSERT_TRUE(groups.ok()) << groups.status();
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 32; ++j) {
      const int64_t at = i * 2 + j / 16;
      const float steps = std::nearbyint(w.Row(i)[j] * scales[j] / groups->scales[at]);
      const float code = std::clamp(steps + groups->zero_points[at], 0.0f, 15.0f);
      EXPECT_EQ(groups->codes[i * 32 + j], static_cast<uint8_t>(code));
    }
  }
}

// The searches' kernel is FitAffine bit for bit: in subnormal scales, where F16 overflows, for
// ranges that hold nothing but 0.
TEST(RangesTest, FitAffinesIsFitAffine) {
  std::mt19937_64 random(9);
  std::uniform_real_distribution<float> exponent(-40, 22);
  std::normal_distribution<float> normal;
  constexpr int64_t kCount = 1003;
  for (DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    for (int bits : {2, 4, 8}) {
      for (bool symmetric : {false, true}) {
        const WeightFormat format{bits, 128, symmetric, dtype};
        std::vector<float> lo(kCount), hi(kCount), scales(kCount), zeros(kCount);
        for (int64_t i = 0; i < kCount; ++i) {
          const float magnitude = i % 50 == 0 ? 0.0f : std::exp2(exponent(random));
          const float a = normal(random) * magnitude;
          const float b = normal(random) * magnitude;
          lo[i] = std::min(a, b);
          hi[i] = std::max(a, b);
        }
        for (const float shrink : {1.0f, 0.975f, 0.525f}) {
          FitAffines(lo.data(), hi.data(), shrink, kCount, format, scales.data(), zeros.data());
          for (int64_t i = 0; i < kCount; ++i) {
            const Affine expected = FitAffine(lo[i], hi[i], shrink, format);
            EXPECT_EQ(scales[i], expected.scale) << lo[i] << " to " << hi[i];
            EXPECT_EQ(zeros[i], expected.zero_point) << lo[i] << " to " << hi[i];
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace salient
