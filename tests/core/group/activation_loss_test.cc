// Holds losses with rounded activations against NumPy's (tests/golden/make_goldens.py) and against
// the definition, token by token.
#include "core/group/activation_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/method/scale_smoothquant.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/golden_file.h"
#include "tests/support/matrix_view.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::Golden;

constexpr WeightFormat kChannel{8, kWholeRow, true, DType::kF16};
constexpr WeightFormat kTensor{8, kWholeTensor, true, DType::kF16};

TEST(ActivationLossGoldenTest, EveryCandidateHasTheOutputErrorThatNumPyComputes) {
  constexpr int64_t kColumns = 256;
  const Golden inputs("inputs");
  const Matrix x = inputs.Halves("x", kColumns);
  Statistics statistics = testing::DirectStatistics(x);
  testing::KeepSample(x, 64, statistics);
  const std::vector<std::byte> first = inputs.Bytes("0.weight"), second = inputs.Bytes("1.weight");
  const std::vector<Linear> linears = {{"a", {DType::kF16, first.data(), 24, kColumns}},
                                       {"b", {DType::kF16, second.data(), 8, kColumns}}};
  SerialExecutor executor;
  const auto proposals = ProposeSmoothQuantScales({linears[0].weight, linears[1].weight},
                                                  statistics, {}, nullptr, executor);
  ASSERT_TRUE(proposals.ok()) << proposals.status();
  const Golden golden("scale_smoothquant");
  struct Kind {
    std::string name;
    ActivationFormat activations;
    WeightFormat format;
  };
  for (const Kind& kind : {Kind{"dynamic", ActivationFormat::kDynamicToken, kChannel},
                           Kind{"static", ActivationFormat::kStaticTensor, kChannel},
                           Kind{"whole_tensor", ActivationFormat::kDynamicToken, kTensor}}) {
    const auto loss = ActivationLoss::Create("g", linears, statistics, kind.activations, executor);
    ASSERT_TRUE(loss.ok()) << loss.status();
    const std::vector<double> expected = golden.Read<double>(kind.name);
    const std::vector<float> steps = golden.Read<float>("input_scales");
    ASSERT_EQ(expected.size(), proposals->scales.size());
    for (size_t c = 0; c < expected.size(); ++c) {
      const auto nearest = loss->Nearest(proposals->scales[c], kind.format, executor);
      ASSERT_TRUE(nearest.ok()) << nearest.status();
      EXPECT_NEAR((*nearest)[0].Value() + (*nearest)[1].Value(), expected[c], 2e-4 * expected[c])
          << kind.name << " candidate " << c;
      const float step = loss->InputScale(proposals->scales[c]);
      if (kind.activations == ActivationFormat::kStaticTensor) {
        EXPECT_NEAR(step, steps[c], 1e-6 * steps[c]);
      } else {
        EXPECT_EQ(step, 0);
      }
    }
  }
}

class ActivationLossTest : public ::testing::TestWithParam<ActivationFormat> {
 protected:
  static constexpr int64_t kColumns = 96;

  ActivationLossTest()
      : x_(testing::Activations(1, 90, kColumns)),
        statistics_(testing::DirectStatistics(x_)),
        a_(testing::GaussianMatrix(2, 70, kColumns, 0.05f)),
        b_(testing::GaussianMatrix(3, 5, kColumns, 0.02f)),
        linears_({{"m.a", testing::View(a_)}, {"m.b", testing::View(b_)}}) {
    testing::KeepSample(x_, 50, statistics_);
    for (int64_t j = 0; j < kColumns; ++j) {
      scales_.push_back(0.5f + 0.125f * static_cast<float>(j % 9));
    }
  }

  // Returns x / s of one sampled token as an engine rounds it.
  std::vector<double> RoundedToken(int64_t t) const {
    double largest = 0;
    const bool dynamic = GetParam() == ActivationFormat::kDynamicToken;
    for (int64_t row = dynamic ? t : 0; row < (dynamic ? t + 1 : x_.rows()); ++row) {
      for (int64_t j = 0; j < kColumns; ++j) {
        largest = std::max<double>(largest, std::abs(x_.Row(row)[j] / scales_[j]));
      }
    }
    const double step = largest / 127;
    std::vector<double> rounded;
    for (int64_t j = 0; j < kColumns; ++j) {
      rounded.push_back(step * std::nearbyint(x_.Row(t)[j] / scales_[j] / step));
    }
    return rounded;
  }

  Matrix x_;
  Statistics statistics_;
  Matrix a_;
  Matrix b_;
  std::vector<Linear> linears_;
  std::vector<float> scales_;
  SerialExecutor executor_;
};

TEST_P(ActivationLossTest, IsTheOutputErrorOfDecodedWeightsOnRoundedTokens) {
  const auto loss = ActivationLoss::Create("g", linears_, statistics_, GetParam(), executor_);
  ASSERT_TRUE(loss.ok()) << loss.status();
  const WeightFormat format{4, 32, false, DType::kF16};
  std::vector<AffineGroups> groups;
  for (const Linear& linear : linears_) {
    const auto ranges = RangeMinMax(linear.weight, scales_, format, false, executor_);
    groups.push_back(*RoundNearest(linear.weight, scales_, *ranges, format, executor_));
  }
  const auto losses = loss->Of(groups, scales_, executor_);
  const auto nearest = loss->Nearest(scales_, format, executor_);
  ASSERT_TRUE(losses.ok() && nearest.ok());
  const std::vector<Loss> energies = loss->Energies();
  for (size_t i = 0; i < 2; ++i) {
    const Matrix& w = i == 0 ? a_ : b_;
    Matrix decoded(w.rows(), kColumns);
    for (int64_t o = 0; o < w.rows(); ++o) groups[i].DecodeRow(o, decoded.Row(o));
    std::vector<double> of_tokens;
    double sum = 0, energy = 0;
    for (int64_t t = 0; t < 50; ++t) {
      const std::vector<double> rounded = RoundedToken(t);
      double error = 0;
      for (int64_t o = 0; o < w.rows(); ++o) {
        double y = 0, z = 0;
        for (int64_t j = 0; j < kColumns; ++j) {
          y += rounded[j] * decoded.Row(o)[j];
          z += static_cast<double>(x_.Row(t)[j]) * w.Row(o)[j];
        }
        error += (y - z) * (y - z);
        energy += z * z / 50;
      }
      of_tokens.push_back(error);
      sum += error / 50;
    }
    EXPECT_NEAR((*losses)[i].Value(), sum, 1e-4 * sum);
    EXPECT_NEAR((*nearest)[i].Value(), sum, 1e-4 * sum);
    EXPECT_NEAR(energies[i].Value(), energy, 1e-4 * energy);
    // This is the standard error of a mean.
    double squares = 0;
    for (double error : of_tokens) squares += (error - sum) * (error - sum);
    const double standard_error = std::sqrt(squares / 49 / 50);
    EXPECT_NEAR((*losses)[i].StandardError(), standard_error, 1e-3 * standard_error);
  }
}

TEST_P(ActivationLossTest, DoesNotDependOnTheExecutor) {
  testing::ThreadExecutor threads(3);
  const auto one = ActivationLoss::Create("g", linears_, statistics_, GetParam(), executor_);
  const auto many = ActivationLoss::Create("g", linears_, statistics_, GetParam(), threads);
  ASSERT_TRUE(one.ok() && many.ok());
  const auto a = one->Nearest(scales_, kTensor, executor_);
  const auto b = many->Nearest(scales_, kTensor, threads);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ((*a)[i].sketched, (*b)[i].sketched);
}

TEST_P(ActivationLossTest, TokensOfZerosLoseNothing) {
  const Matrix silence(20, kColumns);
  Statistics statistics = testing::DirectStatistics(silence);
  testing::KeepSample(silence, 20, statistics);
  const auto loss = ActivationLoss::Create("g", linears_, statistics, GetParam(), executor_);
  ASSERT_TRUE(loss.ok());
  EXPECT_EQ((*loss->Nearest(scales_, kChannel, executor_))[0].Value(), 0);
  if (GetParam() == ActivationFormat::kStaticTensor) {
    EXPECT_EQ(loss->InputScale(scales_), 1);
  }
}

TEST_P(ActivationLossTest, TokensNextToNothingAreRoundedToIt) {
  Matrix whisper(20, kColumns);
  for (int64_t t = 0; t < 20; ++t) whisper.Row(t)[t] = t % 2 == 0 ? 2e-8f : -1e-44f;
  if (GetParam() == ActivationFormat::kStaticTensor) {
    // Divided by 127 no f32 is left.
    for (int64_t t = 0; t < 20; ++t) whisper.Row(t)[t] = 1e-44f;
  }
  Statistics statistics = testing::DirectStatistics(whisper);
  testing::KeepSample(whisper, 20, statistics);
  const auto loss = ActivationLoss::Create("g", linears_, statistics, GetParam(), executor_);
  ASSERT_TRUE(loss.ok());
  if (GetParam() == ActivationFormat::kStaticTensor) {
    EXPECT_EQ(loss->InputScale(scales_), 1);
  }
  const std::vector<Loss> energies = loss->Energies();
  EXPECT_EQ((*loss->Nearest(scales_, kChannel, executor_))[0].Value(), energies[0].Value());
}

TEST_P(ActivationLossTest, WithoutASampleItSaysSo) {
  statistics_.sample = {};
  const absl::Status status =
      ActivationLoss::Create("block.0.qkv", linears_, statistics_, GetParam(), executor_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("block.0.qkv: the statistics hold no token sample"),
            absl::string_view::npos)
      << status;
}

TEST_P(ActivationLossTest, NonFiniteWeightIsNamed) {
  b_.Row(3)[7] = std::numeric_limits<float>::infinity();
  const absl::Status status =
      ActivationLoss::Create("g", linears_, statistics_, GetParam(), executor_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("m.b.weight: element [3, 7] is inf"), absl::string_view::npos)
      << status;
}

INSTANTIATE_TEST_SUITE_P(Activations, ActivationLossTest,
                         ::testing::Values(ActivationFormat::kDynamicToken,
                                           ActivationFormat::kStaticTensor),
                         [](const auto& test) {
                           return test.param == ActivationFormat::kDynamicToken ? "dynamic"
                                                                                : "static";
                         });

}  // namespace
}  // namespace salient
