#include "core/method/round_block.h"

#include <cmath>
#include <vector>

#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/matrix_view.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

constexpr int64_t kRows = 21;  // not a multiple of the panel

struct BlockCase {
  int64_t columns;
  int64_t group_size;
  int64_t width;
  bool symmetric;
};

// The objective of round_block.h by its definition, in f64: sum over blocks of d H_B d^T.
double BlockLoss(const Matrix& w, const std::vector<float>& scales, const AffineGroups& groups,
                 const LossModel& model, const RoundBlockParams& params) {
  const int64_t columns = w.cols();
  const int64_t size = groups.format.GroupSize(columns);
  double loss = 0;
  for (int64_t row = 0; row < w.rows(); ++row) {
    std::vector<double> d(static_cast<size_t>(columns));
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t at = row * groups.Groups() + j / size;
      d[j] =
          double{groups.scales[at]} * (groups.codes[row * columns + j] - groups.zero_points[at]) -
          double{w.Row(row)[j]} * scales[j];
    }
    for (int64_t i = 0; i < columns; ++i) {
      const int64_t first = i / params.width * params.width;
      for (int64_t j = first; j < std::min(columns, first + params.width); ++j) {
        const int64_t stride = model.block_width();
        const double h = model.Block(i / stride)[(i % stride) * stride + j % stride];
        loss += d[i] * d[j] * h / (double{scales[i]} * scales[j]) * (i == j ? 1 : params.shrinkage);
      }
    }
  }
  return loss;
}

class RoundBlockTest : public ::testing::TestWithParam<BlockCase> {
 protected:
  RoundBlockTest()
      : x_(testing::Activations(1, 400, GetParam().columns)),
        model_(testing::DirectStatistics(x_)),
        weight_(testing::GaussianMatrix(2, kRows, GetParam().columns, 0.05f)),
        scales_(static_cast<size_t>(GetParam().columns)) {
    for (size_t j = 0; j < scales_.size(); ++j)
      scales_[j] = 0.5f + 0.25f * static_cast<float>(j % 6);
    format_.group_size = GetParam().group_size;
    format_.symmetric = GetParam().symmetric;
    params_.width = GetParam().width;
    ranges_ = std::make_unique<Ranges>(
        *RangeMinMax(testing::View(weight_), scales_, format_, false, serial_));
  }

  AffineGroups Round(const RoundBlockParams& params, Executor& executor) {
    absl::StatusOr<AffineGroups> groups =
        RoundBlock(testing::View(weight_), scales_, *ranges_, model_, format_, params, executor);
    EXPECT_TRUE(groups.ok()) << groups.status();
    return *std::move(groups);
  }

  SerialExecutor serial_;
  Matrix x_;
  LossModel model_;
  Matrix weight_;
  std::vector<float> scales_;
  WeightFormat format_;
  RoundBlockParams params_;
  std::unique_ptr<Ranges> ranges_;
};

TEST_P(RoundBlockTest, EveryStepLowersTheBlockLoss) {
  const auto loss = [&](const AffineGroups& groups) {
    return BlockLoss(weight_, scales_, groups, model_, params_);
  };
  const double nearest =
      loss(*RoundNearest(testing::View(weight_), scales_, *ranges_, format_, serial_));
  RoundBlockParams params = params_;
  params.refits = 0;
  params.descent_sweeps = 0;
  const double fed_back = loss(Round(params, serial_));
  EXPECT_LT(fed_back, nearest);
  params.descent_sweeps = 1;
  const double swept = loss(Round(params, serial_));
  EXPECT_LT(swept, fed_back);
  params.descent_sweeps = 4;  // all of them, though no refit follows
  EXPECT_LT(loss(Round(params, serial_)), swept);
  params.refits = 1;
  params.descent_sweeps = 0;
  const double refitted = loss(Round(params, serial_));
  EXPECT_LT(refitted, fed_back);
  const double all = loss(Round(params_, serial_));
  EXPECT_LT(all, std::min(swept, refitted));
}

TEST_P(RoundBlockTest, ScalesStayPositiveRepresentableAndCodesInRange) {
  const AffineGroups groups = Round(params_, serial_);
  for (float scale : groups.scales) {
    EXPECT_GT(scale, 0);
    EXPECT_EQ(scale, RoundToF16(scale));
  }
  for (uint8_t code : groups.codes) EXPECT_LE(code, 15);
  for (size_t i = 0; i < groups.zero_points.size(); ++i) {
    EXPECT_EQ(groups.zero_points[i], ranges_->zero_points[i]);
  }
}

TEST_P(RoundBlockTest, ResultDoesNotDependOnTheExecutor) {
  testing::ThreadExecutor threads(3);
  const AffineGroups one = Round(params_, serial_);
  const AffineGroups three = Round(params_, threads);
  EXPECT_EQ(one.codes, three.codes);
  EXPECT_EQ(one.scales, three.scales);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, RoundBlockTest,
    ::testing::Values(BlockCase{256, 128, 256, false}, BlockCase{256, 128, 128, false},
                      BlockCase{256, 32, 256, true}, BlockCase{768, 768, 256, false},
                      BlockCase{384, 96, 128, false}, BlockCase{172, 43, 256, false}));

TEST(RoundBlockTest, DeadChannelsAndConstantInputsAreRounded) {
  Matrix x(64, 64);
  for (int64_t t = 0; t < 64; ++t) x.Row(t)[3] = 2.0f;  // one live channel, always the same
  const LossModel model(testing::DirectStatistics(x));
  const Matrix w = testing::GaussianMatrix(4, 8, 64);
  const std::vector<float> ones(64, 1.0f);
  WeightFormat format;
  format.group_size = 32;
  SerialExecutor executor;
  const auto ranges = RangeMinMax(testing::View(w), ones, format, false, executor);
  ASSERT_TRUE(ranges.ok());
  const auto groups = RoundBlock(testing::View(w), ones, *ranges, model, format, {}, executor);
  ASSERT_TRUE(groups.ok()) << groups.status();
  for (float scale : groups->scales) EXPECT_TRUE(std::isfinite(scale) && scale > 0);
}

// Two tokens, much alike: the rounding of f32 makes such an H less than positive.
TEST(RoundBlockTest, ABlockThatCannotBeFactoredIsDampedMore) {
  constexpr int64_t kColumns = 256;
  Matrix x = testing::GaussianMatrix(1, 2, kColumns, 0.02f);
  for (int64_t i = 0; i < 2 * kColumns; ++i) x.data()[i] += 1.02f;
  const LossModel model(testing::DirectStatistics(x));
  const Matrix w = testing::GaussianMatrix(2, kRows, kColumns, 0.05f);
  const std::vector<float> ones(kColumns, 1.0f);
  const WeightFormat format;
  RoundBlockParams params;
  params.shrinkage = 1;
  params.damping = 0;
  SerialExecutor executor;
  const auto ranges = RangeMinMax(testing::View(w), ones, format, false, executor);
  ASSERT_TRUE(ranges.ok());
  const auto groups = RoundBlock(testing::View(w), ones, *ranges, model, format, params, executor);
  ASSERT_TRUE(groups.ok()) << groups.status();
  const auto nearest = RoundNearest(testing::View(w), ones, *ranges, format, executor);
  EXPECT_LT(BlockLoss(w, ones, *groups, model, params),
            BlockLoss(w, ones, *nearest, model, params));
}

TEST(RoundBlockTest, ParamsOutOfRangeNameTheField) {
  for (const auto& [params, field] : std::vector<std::pair<RoundBlockParams, std::string>>{
           {{.width = 96}, "width"},
           {{.width = 0}, "width"},
           {{.shrinkage = 1.5f}, "shrinkage"},
           {{.damping = -1}, "damping"},
           {{.descent_sweeps = 65}, "descent_sweeps"},
           {{.refits = -1}, "refits"}}) {
    const absl::Status status = ValidateRoundBlockParams(params, 256);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(status.message()).find(field), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace salient
