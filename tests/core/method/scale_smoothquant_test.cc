#include "core/method/scale_smoothquant.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>
#include <vector>

#include "core/method/scale_contest.h"
#include "core/parallel/executor.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/matrix_view.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

ScaleProposals Propose(const std::vector<WeightView>& weights, const Statistics& statistics,
                       std::optional<double> alpha, const TiedHeads* tied = nullptr) {
  SerialExecutor executor;
  auto proposals = ProposeSmoothQuantScales(weights, statistics, {alpha}, tied, executor);
  EXPECT_TRUE(proposals.ok()) << proposals.status();
  return *std::move(proposals);
}

// Up to a common factor, which changes nothing, and to the rounding to 8 bits, s is eq. 4.
TEST(ScaleSmoothQuantTest, IsThePapersFormulaOverAllLinearsOfTheGroup) {
  const Matrix x = testing::Activations(1, 200, 192);
  const Statistics statistics = testing::DirectStatistics(x);
  const Matrix q = testing::GaussianMatrix(2, 70, 192, 0.05f);
  const Matrix k = testing::GaussianMatrix(3, 9, 192, 0.07f);
  for (const double alpha : {0.0, 0.35, 0.5, 0.8, 1.0}) {
    const ScaleProposals proposals =
        Propose({testing::View(q), testing::View(k)}, statistics, alpha);
    ASSERT_EQ(proposals.candidates.size(), 1u);
    EXPECT_EQ(proposals.candidates[0], (ScaleCandidate{false, true, alpha, true}));
    const std::vector<float>& scales = proposals.scales[0];
    std::vector<double> expected;
    for (int64_t j = 0; j < 192; ++j) {
      double largest_x = 0, largest_w = 0;
      for (int64_t t = 0; t < x.rows(); ++t) {
        largest_x = std::max<double>(largest_x, std::abs(x.Row(t)[j]));
      }
      for (const Matrix* w : {&q, &k}) {
        for (int64_t i = 0; i < w->rows(); ++i) {
          largest_w = std::max<double>(largest_w, std::abs(w->Row(i)[j]));
        }
      }
      expected.push_back(std::pow(largest_x, alpha) / std::pow(largest_w, 1 - alpha));
    }
    for (size_t j = 1; j < 192; ++j) {
      EXPECT_NEAR(scales[j] / scales[0] / (expected[j] / expected[0]), 1, 0x1p-7) << alpha;
      EXPECT_EQ(scales[j], BF16ToF32(F32ToBF16(scales[j])));
    }
    const auto [lo, hi] = std::minmax_element(scales.begin(), scales.end());
    EXPECT_NEAR(*lo * *hi, 1.0f, 0.02f);
  }
}

TEST(ScaleSmoothQuantTest, TheSearchIsOverIdentityAndAlphasByATwentieth) {
  const Statistics statistics = testing::DirectStatistics(testing::Activations(1, 50, 64));
  const Matrix w = testing::GaussianMatrix(2, 8, 64);
  const ScaleProposals all = Propose({testing::View(w)}, statistics, std::nullopt);
  ASSERT_EQ(all.candidates.size(), 22u);
  EXPECT_TRUE(all.candidates[0].identity);
  EXPECT_EQ(all.scales[0], std::vector<float>(64, 1.0f));
  for (size_t c = 1; c < 22; ++c) {
    const double alpha = static_cast<double>(c - 1) / 20;
    EXPECT_EQ(all.candidates[c], (ScaleCandidate{false, true, alpha, true}));
    EXPECT_EQ(all.scales[c], Propose({testing::View(w)}, statistics, alpha).scales[0]);
  }
}

TEST(ScaleSmoothQuantTest, TiedHeadsShareTheScaleOfTheirLargest) {
  Matrix x = testing::Activations(6, 100, 64);
  const Matrix w = testing::GaussianMatrix(7, 16, 64);
  const TiedHeads tied{8, 2};  // 8 heads in pairs
  const ScaleProposals proposals =
      Propose({testing::View(w)}, testing::DirectStatistics(x), 0.75, &tied);
  const std::vector<float> scales = proposals.scales[0];
  for (size_t j = 0; j < 64; ++j) {
    const size_t head = j / 8;
    EXPECT_EQ(scales[j], scales[(head / 2 * 2) * 8 + j % 8]);
  }
  // The quieter head of a pair has no say.
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t d = 0; d < 8; ++d) x.Row(t)[8 + d] = 0.5f * x.Row(t)[d];
  }
  const std::vector<float> quiet =
      Propose({testing::View(w)}, testing::DirectStatistics(x), 1.0, &tied).scales[0];
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t d = 0; d < 8; ++d) x.Row(t)[8 + d] = 0;
  }
  EXPECT_EQ(Propose({testing::View(w)}, testing::DirectStatistics(x), 1.0, &tied).scales[0], quiet);
}

TEST(ScaleSmoothQuantTest, ChannelsThatNeverFireAndWeightsOfZeroStayFinite) {
  Matrix x = testing::Activations(8, 100, 64);
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t j = 0; j < 64; j += 9) x.Row(t)[j] = 0;
  }
  Matrix w = testing::GaussianMatrix(9, 16, 64);
  for (int64_t i = 0; i < 16; ++i) w.Row(i)[11] = 0;
  const Matrix nothing(16, 64);
  const Statistics statistics = testing::DirectStatistics(x);
  const Statistics silence = testing::DirectStatistics(Matrix(10, 64));
  for (const Statistics* seen : {&statistics, &silence}) {
    for (const Matrix* weight : std::initializer_list<const Matrix*>{&w, &nothing}) {
      for (const auto& scales : Propose({testing::View(*weight)}, *seen, std::nullopt).scales) {
        for (float s : scales) EXPECT_TRUE(std::isfinite(s) && s > 0) << s;
      }
    }
  }
}

TEST(ScaleSmoothQuantTest, DoesNotDependOnTheExecutor) {
  const Statistics statistics = testing::DirectStatistics(testing::Activations(1, 50, 128));
  const Matrix w = testing::GaussianMatrix(2, 300, 128);
  testing::ThreadExecutor threads(3);
  const auto many =
      ProposeSmoothQuantScales({testing::View(w)}, statistics, {0.5}, nullptr, threads);
  ASSERT_TRUE(many.ok());
  EXPECT_EQ(many->scales, Propose({testing::View(w)}, statistics, 0.5).scales);
}

TEST(ScaleSmoothQuantTest, AlphaOutOfRangeIsNamed) {
  for (const double alpha : {-0.1, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    const absl::Status status = ValidateScaleSmoothQuantParams({alpha});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("smoothquant.alpha is"), absl::string_view::npos) << status;
  }
  EXPECT_TRUE(ValidateScaleSmoothQuantParams({}).ok());
  EXPECT_TRUE(ValidateScaleSmoothQuantParams({0.0}).ok());
  EXPECT_TRUE(ValidateScaleSmoothQuantParams({1.0}).ok());
}

}  // namespace
}  // namespace salient
