// Each choice on one small group against tests/golden, which an independent NumPy twin wrote
// (tests/golden/make_goldens.py). A golden's own f32 rounding may break a tie differently:
// at least 99.9 % of codes and ranges must be equal, losses agree to 1e-5.
#include <cmath>
#include <string>
#include <vector>

#include "core/method/method.h"
#include "core/method/range_clip.h"
#include "core/method/ranges.h"
#include "core/method/round_block.h"
#include "core/method/round_nearest.h"
#include "core/method/scale_awq.h"
#include "core/method/scale_smoothquant.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/golden_file.h"

namespace salient {
namespace {

using testing::Golden;
using testing::ShareEqual;

class GoldenTest : public ::testing::Test {
 protected:
  static constexpr int64_t kColumns = 256;

  GoldenTest()
      : inputs_("inputs"),
        x_(inputs_.Halves("x", kColumns)),
        statistics_(testing::DirectStatistics(x_)),
        model_(statistics_),
        scales_(Golden("scale_awq").Read<float>("s")) {
    format_.group_size = 64;
    for (int i = 0; i < 2; ++i) {
      bytes_.push_back(inputs_.Bytes(std::to_string(i) + ".weight"));
      weights_.push_back({DType::kF16, bytes_.back().data(),
                          static_cast<int64_t>(bytes_.back().size()) / 2 / kColumns, kColumns});
    }
  }

  void ExpectEqual(const AffineGroups& groups, const std::string& golden, size_t index) {
    const Golden file(golden);
    const std::string prefix = std::to_string(index);
    EXPECT_GE(ShareEqual(groups.codes, file.Codes(prefix + ".codes")), 0.999) << prefix;
    EXPECT_GE(ShareEqual(groups.scales, file.Read<float>(prefix + ".scales")), 0.98) << prefix;
    EXPECT_EQ(ShareEqual(groups.zero_points, file.Codes(prefix + ".zero_points")), 1.0);
  }

  Golden inputs_;
  Matrix x_;
  Statistics statistics_;
  LossModel model_;
  std::vector<float> scales_;
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<WeightView> weights_;
  WeightFormat format_;
  SerialExecutor executor_;
};

TEST_F(GoldenTest, ScaleAwq) {
  ScaleAwqParams params;
  params.exhaustive = true;
  const auto search = SearchAwqScale(weights_, statistics_, model_, format_, params, executor_);
  ASSERT_TRUE(search.ok()) << search.status();
  // Rows of (weight_aware, ratio, loss); the twin also lists the weight-aware ratio 1, which is
  // the plain one again.
  const std::vector<double> rows = Golden("scale_awq").Read<double>("losses");
  ASSERT_EQ(rows.size(), 3 * (search->losses.size() + 1));
  for (size_t c = 0; c < search->losses.size(); ++c) {
    EXPECT_EQ(search->candidates[c].weight_aware, rows[3 * c] != 0);
    EXPECT_NEAR(search->candidates[c].ratio, rows[3 * c + 1], 1e-12);
    EXPECT_NEAR(search->losses[c], rows[3 * c + 2], 1e-5 * rows[3 * c + 2]) << "candidate " << c;
  }
  EXPECT_EQ(ShareEqual(search->scales, scales_), 1.0);
}

TEST_F(GoldenTest, RoundNearest) {
  for (size_t i = 0; i < 2; ++i) {
    const auto ranges = RangeMinMax(weights_[i], scales_, format_, false, executor_);
    ASSERT_TRUE(ranges.ok()) << ranges.status();
    const auto groups = RoundNearest(weights_[i], scales_, *ranges, format_, executor_);
    ASSERT_TRUE(groups.ok()) << groups.status();
    ExpectEqual(*groups, "round_nearest", i);
  }
}

TEST_F(GoldenTest, RangeClip) {
  for (size_t i = 0; i < 2; ++i) {
    const auto ranges = RangeClip(weights_[i], scales_, model_, format_, false, executor_);
    ASSERT_TRUE(ranges.ok()) << ranges.status();
    const auto groups = RoundNearest(weights_[i], scales_, *ranges, format_, executor_);
    ASSERT_TRUE(groups.ok()) << groups.status();
    ExpectEqual(*groups, "range_clip", i);
  }
}

TEST_F(GoldenTest, RoundBlock) {
  RoundBlockParams params;
  params.width = 128;
  for (size_t i = 0; i < 2; ++i) {
    // The NumPy twin's ranges are those of f32: what follows is to be told apart from a near tie.
    const auto ranges = RangeClipTwin(weights_[i], scales_, model_, format_, executor_);
    ASSERT_TRUE(ranges.ok()) << ranges.status();
    const auto groups =
        RoundBlock(weights_[i], scales_, *ranges, model_, format_, params, executor_);
    ASSERT_TRUE(groups.ok()) << groups.status();
    ExpectEqual(*groups, "round_block", i);
  }
}

TEST_F(GoldenTest, OneRangeForTheWholeTensor) {
  format_.group_size = kWholeTensor;
  for (size_t i = 0; i < 2; ++i) {
    const auto plain = RangeMinMax(weights_[i], scales_, format_, false, executor_);
    ASSERT_TRUE(plain.ok()) << plain.status();
    ExpectEqual(*RoundNearest(weights_[i], scales_, *plain, format_, executor_), "whole_tensor", i);
    const auto clipped = RangeClip(weights_[i], scales_, model_, format_, false, executor_);
    ASSERT_TRUE(clipped.ok()) << clipped.status();
    EXPECT_EQ(clipped->narrowed[0], 1);
    ExpectEqual(*RoundNearest(weights_[i], scales_, *clipped, format_, executor_),
                "whole_tensor_clip", i);
    const auto twin = RangeClipTwin(weights_[i], scales_, model_, format_, executor_);
    ASSERT_TRUE(twin.ok()) << twin.status();
    EXPECT_EQ(twin->scales, clipped->scales);
  }
}

TEST_F(GoldenTest, ScaleSmoothQuant) {
  const auto proposals = ProposeSmoothQuantScales(weights_, statistics_, {}, nullptr, executor_);
  ASSERT_TRUE(proposals.ok()) << proposals.status();
  std::vector<float> all;
  for (const auto& scales : proposals->scales) all.insert(all.end(), scales.begin(), scales.end());
  EXPECT_GE(ShareEqual(all, Golden("scale_smoothquant").Read<float>("s")), 0.999);
}

}  // namespace
}  // namespace salient
