// Choices and rounding against tests/golden/salient_fp16.safetensors, which an independent NumPy
// twin wrote (tests/golden/make_goldens.py), and against the plain rounding that they are made of.
#include "core/method/salient_fp16.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/golden_file.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using testing::Golden;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Channels = std::vector<int64_t>;

constexpr int64_t kColumns = 256;

WeightView ViewOf(const Matrix& weight) {
  return {DType::kF32, reinterpret_cast<const std::byte*>(weight.data()), weight.rows(),
          weight.cols()};
}

WeightFormat Format(int bits, int64_t group_size) {
  WeightFormat format;
  format.bits = bits;
  format.group_size = group_size;
  return format;
}

Statistics StatisticsOf(const std::vector<double>& sum_abs) {
  Matrix x(1, static_cast<int64_t>(sum_abs.size()));
  std::copy(sum_abs.begin(), sum_abs.end(), x.data());
  return testing::DirectStatistics(x);
}

TEST(SalientFp16Test, IsWhatNumPyFinds) {
  const Golden inputs("inputs");
  const Golden golden("salient_fp16");
  const Matrix x = inputs.Halves("x", kColumns);
  const Statistics statistics = testing::DirectStatistics(x);
  const LossModel model(statistics);
  constexpr std::pair<SalientChoice, const char*> kChoices[] = {
      {SalientChoice::kNone, "none"},
      {SalientChoice::kWeight, "weight"},
      {SalientChoice::kRandom, "random"},
      {SalientChoice::kActivation, "activation"}};
  for (int64_t linear = 0; linear < 2; ++linear) {
    const std::string index = std::to_string(linear);
    const std::vector<uint16_t> halves = inputs.Read<uint16_t>(index + ".weight");
    const Matrix exact = inputs.Halves(index + ".weight", kColumns);
    const WeightView weight = {DType::kF16, reinterpret_cast<const std::byte*>(halves.data()),
                               exact.rows(), kColumns};
    const double energy = model.Evaluate(exact.data(), exact.rows())->Value();
    for (const auto& [choice, name] : kChoices) {
      const std::string prefix = index + "." + name;
      const auto kept = SalientChannels(weight, statistics, {choice, 0.02, 7, linear});
      ASSERT_TRUE(kept.ok()) << kept.status();
      EXPECT_EQ(*kept, golden.Read<int64_t>(prefix + ".channels")) << prefix;
      auto rounded = RoundSalientFp16(weight, *kept, Format(3, 64));
      ASSERT_TRUE(rounded.ok()) << rounded.status();
      const std::vector<float> expected = golden.Read<float>(prefix + ".weight");
      ASSERT_EQ(static_cast<int64_t>(expected.size()), rounded->rows() * rounded->cols());
      int64_t equal = 0;
      for (size_t i = 0; i < expected.size(); ++i) {
        equal += rounded->data()[i] == expected[i] ? 1 : 0;
        rounded->data()[i] -= exact.data()[i];
      }
      // A tie may break otherwise under another rounding of the same quotient.
      EXPECT_GE(static_cast<double>(equal), 0.999 * static_cast<double>(expected.size())) << prefix;
      const double error = model.Evaluate(rounded->data(), rounded->rows())->Value() / energy;
      const double wanted = golden.Read<double>(prefix + ".error")[0];
      EXPECT_NEAR(error, wanted, 1e-4 * wanted) << prefix;
    }
  }
}

TEST(SalientFp16Test, WithoutChannelsItIsPlainRoundToNearest) {
  const Matrix weight = testing::GaussianMatrix(3, 70, kColumns, 0.05f);
  SerialExecutor executor;
  const std::vector<float> ones(kColumns, 1.0f);
  for (WeightFormat format : {Format(3, 128), Format(4, 32), Format(2, kWholeRow), Format(8, 64)}) {
    for (const bool symmetric : {false, true}) {
      format.symmetric = symmetric;
      const auto ranges = RangeMinMax(ViewOf(weight), ones, format, false, executor);
      const auto groups = RoundNearest(ViewOf(weight), ones, *ranges, format, executor);
      ASSERT_TRUE(groups.ok()) << groups.status();
      const auto rounded = RoundSalientFp16(ViewOf(weight), {}, format);
      ASSERT_TRUE(rounded.ok()) << rounded.status();
      std::vector<float> row(kColumns);
      for (int64_t i = 0; i < weight.rows(); ++i) {
        groups->DecodeRow(i, row.data());
        ASSERT_EQ(std::memcmp(row.data(), rounded->Row(i), kColumns * sizeof(float)), 0)
            << "row " << i << ", " << format.bits << " bits";
      }
    }
  }
}

// The ranges of the others do not know the kept ones: they could be anything.
TEST(SalientFp16Test, KeptWeightsStayAndLeaveTheOthersAlone) {
  const Channels kept = {0, 63, 64, 200};
  const Matrix weight = testing::GaussianMatrix(4, 9, kColumns, 0.05f);
  Matrix other = testing::GaussianMatrix(4, 9, kColumns, 0.05f);
  for (int64_t i = 0; i < other.rows(); ++i) {
    for (const int64_t j : kept) other.Row(i)[j] = 1000.0f + static_cast<float>(i + j);
  }
  const auto a = RoundSalientFp16(ViewOf(weight), kept, Format(3, 64));
  const auto b = RoundSalientFp16(ViewOf(other), kept, Format(3, 64));
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_TRUE(b.ok()) << b.status();
  for (int64_t i = 0; i < weight.rows(); ++i) {
    size_t at = 0;
    for (int64_t j = 0; j < kColumns; ++j) {
      if (at < kept.size() && kept[at] == j) {
        ++at;
        EXPECT_EQ(a->Row(i)[j], RoundToF16(weight.Row(i)[j]));
        EXPECT_EQ(b->Row(i)[j], RoundToF16(other.Row(i)[j]));
        continue;
      }
      EXPECT_EQ(a->Row(i)[j], b->Row(i)[j]) << i << ", " << j;
      EXPECT_LT(std::abs(a->Row(i)[j]), 1.0f);
    }
  }
}

TEST(SalientFp16Test, EveryChannelKeptIsTheWeightInF16) {
  const Matrix weight = testing::GaussianMatrix(5, 3, 64, 0.05f);
  const auto kept = SalientChannels(ViewOf(weight), StatisticsOf(std::vector<double>(64, 1.0)),
                                    {SalientChoice::kWeight, 1.0, 0, 0});
  ASSERT_TRUE(kept.ok()) << kept.status();
  ASSERT_EQ(kept->size(), 64u);
  const auto rounded = RoundSalientFp16(ViewOf(weight), *kept, Format(2, 32));
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  for (int64_t i = 0; i < 3 * 64; ++i) {
    EXPECT_EQ(rounded->data()[i], RoundToF16(weight.data()[i]));
  }
}

TEST(SalientFp16Test, LargestFirstAndOfEqualsTheFirst) {
  Matrix weight(2, 6);
  const float columns[] = {1, -3, 2, 3, 0, 3};
  for (int64_t j = 0; j < 6; ++j) weight.Row(1)[j] = columns[j];
  const Statistics statistics = StatisticsOf({5, 9, 9, 1, 7, 9});
  const auto choose = [&](SalientChoice choice, double share) {
    const auto kept = SalientChannels(ViewOf(weight), statistics, {choice, share, 0, 0});
    EXPECT_TRUE(kept.ok()) << kept.status();
    return kept.ok() ? *kept : Channels();
  };
  EXPECT_THAT(choose(SalientChoice::kActivation, 1.0 / 3), ElementsAre(1, 2));
  EXPECT_THAT(choose(SalientChoice::kWeight, 0.5), ElementsAre(1, 3, 5));
  EXPECT_THAT(choose(SalientChoice::kWeight, 1.0 / 3), ElementsAre(1, 3));
  EXPECT_THAT(choose(SalientChoice::kNone, 0.5), IsEmpty());
  for (const SalientChoice choice :
       {SalientChoice::kActivation, SalientChoice::kWeight, SalientChoice::kRandom}) {
    EXPECT_THAT(choose(choice, 0), IsEmpty());
    EXPECT_EQ(choose(choice, 1e-6).size(), 1u) << "a share is never nothing";
  }
}

TEST(SalientFp16Test, SharesAreOfChannels) {
  EXPECT_EQ(SalientCount(0.01, 256), 3);
  EXPECT_EQ(SalientCount(0.01, 4096), 41);
  EXPECT_EQ(SalientCount(0.01, 32), 1);
  EXPECT_EQ(SalientCount(0.25, 10), 2);  // 2.5, to even
  EXPECT_EQ(SalientCount(0, 256), 0);
  EXPECT_EQ(SalientCount(1, 256), 256);
}

// A third of the channels, again and again: each is chosen about as often as any other.
TEST(SalientFp16Test, RandomChoicesAreEvenAndBelongToSeedAndLinear) {
  const Matrix weight(1, 60);
  const Statistics statistics = StatisticsOf(std::vector<double>(60, 1.0));
  const auto choose = [&](uint64_t seed, int64_t linear) {
    return *SalientChannels(ViewOf(weight), statistics,
                            {SalientChoice::kRandom, 1.0 / 3, seed, linear});
  };
  EXPECT_EQ(choose(1, 2), choose(1, 2));
  EXPECT_NE(choose(1, 2), choose(2, 2));
  EXPECT_NE(choose(1, 2), choose(1, 3));
  std::vector<int> chosen(60);
  constexpr int kTimes = 900;
  for (int linear = 0; linear < kTimes; ++linear) {
    const Channels kept = choose(0, linear);
    ASSERT_EQ(kept.size(), 20u);
    for (const int64_t channel : kept) ++chosen[static_cast<size_t>(channel)];
  }
  // 300 expected, of standard deviation 14.
  for (const int times : chosen) EXPECT_NEAR(times, kTimes / 3, 70);
}

TEST(SalientFp16Test, WhatCannotBeIsRefusedByName) {
  Matrix weight(2, 64);
  const Statistics statistics = StatisticsOf(std::vector<double>(64, 1.0));
  for (const double share : {-0.01, 1.01, std::numeric_limits<double>::quiet_NaN()}) {
    const auto kept =
        SalientChannels(ViewOf(weight), statistics, {SalientChoice::kNone, share, 0, 0});
    EXPECT_EQ(kept.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(kept.status().message()), HasSubstr("expected 0 to 1"));
  }
  EXPECT_THAT(
      std::string(SalientChannels(ViewOf(weight), StatisticsOf({1, 2}), {}).status().message()),
      HasSubstr("2 in_features; expected the weight's 64"));
  for (const int64_t size : {int64_t{48}, int64_t{0}, kWholeTensor, int64_t{128}}) {
    const auto rounded = RoundSalientFp16(ViewOf(weight), {}, Format(3, size));
    EXPECT_EQ(rounded.status().code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_THAT(std::string(rounded.status().message()),
                HasSubstr("group_size is " + std::to_string(size)));
  }
  weight.Row(1)[5] = 70000;
  const absl::Status kept = RoundSalientFp16(ViewOf(weight), Channels{5}, Format(3, 32)).status();
  EXPECT_TRUE(IsNonFinite(kept)) << kept;
  EXPECT_THAT(std::string(kept.message()), HasSubstr("element [1, 5] is 70000"));
  weight.Row(1)[5] = 3e38f;
  const absl::Status scale = RoundSalientFp16(ViewOf(weight), {}, Format(3, 32)).status();
  EXPECT_TRUE(IsNonFinite(scale)) << scale;
  EXPECT_THAT(std::string(scale.message()), HasSubstr("row 1, group 0"));
}

}  // namespace
}  // namespace salient
