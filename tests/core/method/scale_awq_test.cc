#include "core/method/scale_awq.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/method/ranges.h"
#include "core/parallel/executor.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/matrix_view.h"

namespace salient {
namespace {

// ||Q(W s) (s^-1 X) - W X||^2 / tokens by the definition.
double DirectCandidateLoss(const Matrix& w, const std::vector<float>& scales, const Matrix& x,
                           const WeightFormat& format) {
  const int64_t size = format.GroupSize(w.cols());
  Matrix errors(w.rows(), w.cols());
  for (int64_t i = 0; i < w.rows(); ++i) {
    for (int64_t begin = 0; begin < w.cols(); begin += size) {
      float lo = 0, hi = 0;
      for (int64_t j = begin; j < begin + size; ++j) {
        lo = std::min(lo, w.Row(i)[j] * scales[j]);
        hi = std::max(hi, w.Row(i)[j] * scales[j]);
      }
      const float scale = RoundToF16((hi - lo) / 15);
      const float zero = std::clamp(std::nearbyint(-lo / scale), 0.0f, 15.0f);
      for (int64_t j = begin; j < begin + size; ++j) {
        const float steps = std::nearbyint(w.Row(i)[j] * scales[j] / scale);
        const float decoded = scale * (std::clamp(steps + zero, 0.0f, 15.0f) - zero);
        errors.Row(i)[j] = decoded / scales[j] - w.Row(i)[j];
      }
    }
  }
  return testing::DirectLoss(errors.data(), w.rows(), x);
}

TEST(ScaleAwqTest, LossesOfTheGridAreTheOutputErrors) {
  const Matrix x = testing::Activations(1, 300, 128);
  const Statistics statistics = testing::DirectStatistics(x);
  const Matrix q = testing::GaussianMatrix(2, 24, 128, 0.05f);
  const Matrix k = testing::GaussianMatrix(3, 8, 128, 0.05f);
  WeightFormat format;
  format.group_size = 64;
  SerialExecutor executor;
  const std::vector<WeightView> weights = {testing::View(q), testing::View(k)};
  ScaleAwqParams params;
  params.exhaustive = true;
  const auto search =
      SearchAwqScale(weights, statistics, LossModel(statistics), format, params, executor);
  ASSERT_TRUE(search.ok()) << search.status();
  ASSERT_EQ(search->losses.size(), 41u);
  const std::vector<float> ones(128, 1.0f);
  const double identity =
      DirectCandidateLoss(q, ones, x, format) + DirectCandidateLoss(k, ones, x, format);
  EXPECT_NEAR(search->losses[0], identity, 1e-5 * identity);
  const double best = *std::min_element(search->losses.begin(), search->losses.end());
  const double chosen = DirectCandidateLoss(q, search->scales, x, format) +
                        DirectCandidateLoss(k, search->scales, x, format);
  EXPECT_NEAR(chosen, best, 1e-5 * best);
  EXPECT_LT(chosen, 0.8 * identity) << "salient channels make scaling worth it";
}

TEST(ScaleAwqTest, ScalesHaveEightSignificantBitsAndBalancedRange) {
  const Matrix x = testing::Activations(4, 200, 64);
  const Statistics statistics = testing::DirectStatistics(x);
  const Matrix w = testing::GaussianMatrix(5, 16, 64);
  WeightFormat format;
  format.group_size = 32;
  SerialExecutor executor;
  const std::vector<WeightView> weights = {testing::View(w)};
  const auto search =
      SearchAwqScale(weights, statistics, LossModel(statistics), format, {}, executor);
  ASSERT_TRUE(search.ok());
  for (float s : search->scales) EXPECT_EQ(s, BF16ToF32(F32ToBF16(s)));
  const auto [lo, hi] = std::minmax_element(search->scales.begin(), search->scales.end());
  EXPECT_NEAR(*lo * *hi, 1.0f, 0.02f);
}

TEST(ScaleAwqTest, TiedHeadsShareOneScale) {
  const Matrix x = testing::Activations(6, 200, 64);
  const Statistics statistics = testing::DirectStatistics(x);
  const Matrix w = testing::GaussianMatrix(7, 16, 64);
  WeightFormat format;
  format.group_size = 32;
  SerialExecutor executor;
  const std::vector<WeightView> weights = {testing::View(w)};
  ScaleAwqParams params;
  params.tied_heads = TiedHeads{8, 2};  // 8 heads in pairs
  const auto search =
      SearchAwqScale(weights, statistics, LossModel(statistics), format, params, executor);
  ASSERT_TRUE(search.ok());
  EXPECT_FALSE(search->chosen.identity);
  for (int64_t j = 0; j < 64; ++j) {
    const int64_t head = j / 8;
    EXPECT_EQ(search->scales[j], search->scales[(head / 2 * 2) * 8 + j % 8]);
  }
}

TEST(ScaleAwqTest, ChannelsNeverSeenStayFinite) {
  Matrix x = testing::Activations(8, 100, 64);
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t j = 0; j < 64; j += 9) x.Row(t)[j] = 0;
  }
  Matrix w = testing::GaussianMatrix(9, 16, 64);
  for (int64_t i = 0; i < 16; ++i) w.Row(i)[11] = 0;
  const Statistics statistics = testing::DirectStatistics(x);
  WeightFormat format;
  format.group_size = 64;
  SerialExecutor executor;
  const std::vector<WeightView> weights = {testing::View(w)};
  const auto search =
      SearchAwqScale(weights, statistics, LossModel(statistics), format, {}, executor);
  ASSERT_TRUE(search.ok());
  for (float s : search->scales) EXPECT_TRUE(std::isfinite(s) && s > 0);
  for (double loss : search->losses) EXPECT_TRUE(std::isfinite(loss));
}

}  // namespace
}  // namespace salient
