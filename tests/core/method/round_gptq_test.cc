#include "core/method/round_gptq.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/golden_file.h"
#include "tests/support/matrix_view.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::Golden;

std::vector<double> ErrorsOf(const Matrix& w, const std::vector<float>& scales,
                             const AffineGroups& groups, int64_t row) {
  const int64_t columns = w.cols();
  const int64_t size = groups.format.GroupSize(columns);
  std::vector<double> d(static_cast<size_t>(columns));
  for (int64_t j = 0; j < columns; ++j) {
    const int64_t at = row * groups.Groups() + j / size;
    d[j] = double{groups.scales[at]} * (groups.codes[row * columns + j] - groups.zero_points[at]) -
           double{w.Row(row)[j] * scales[j]};
  }
  return d;
}

// sum over rows of d A d^T by its definition, in f64, straight from the tokens: A = H / (n s s')
// plus `damping` of its mean diagonal.
double DampedLoss(const Matrix& w, const std::vector<float>& scales, const AffineGroups& groups,
                  const Matrix& x, double damping) {
  double trace = 0;
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t j = 0; j < x.cols(); ++j) trace += std::pow(double{x.Row(t)[j]} / scales[j], 2);
  }
  const double n = static_cast<double>(x.rows());
  const double added = damping * trace / n / static_cast<double>(x.cols());
  double loss = 0;
  for (int64_t row = 0; row < w.rows(); ++row) {
    const std::vector<double> d = ErrorsOf(w, scales, groups, row);
    for (double value : d) loss += added * value * value;
    for (int64_t t = 0; t < x.rows(); ++t) {
      double y = 0;
      for (int64_t j = 0; j < x.cols(); ++j) y += d[j] * x.Row(t)[j] / scales[j];
      loss += y * y / n;
    }
  }
  return loss;
}

RoundGptqParams FeedbackOnly(float damping = 0.2f, bool act_order = true) {
  return {.damping = damping, .act_order = act_order, .descent_sweeps = 0, .refits = 0};
}

struct GptqCase {
  int64_t columns;
  int64_t group_size;
  int bits;
  bool symmetric;
};

class RoundGptqTest : public ::testing::TestWithParam<GptqCase> {
 protected:
  static constexpr int64_t kRows = 69;  // more than a tile, not a multiple of a panel

  RoundGptqTest()
      : x_(testing::Activations(1, 400, GetParam().columns)),
        model_(testing::DirectStatistics(x_)),
        weight_(testing::GaussianMatrix(2, kRows, GetParam().columns, 0.05f)),
        scales_(static_cast<size_t>(GetParam().columns)) {
    for (size_t j = 0; j < scales_.size(); ++j) {
      scales_[j] = 0.5f + 0.25f * static_cast<float>(j % 6);
    }
    format_.bits = GetParam().bits;
    format_.group_size = GetParam().group_size;
    format_.symmetric = GetParam().symmetric;
    ranges_ = std::make_unique<Ranges>(
        *RangeMinMax(testing::View(weight_), scales_, format_, false, serial_));
  }

  AffineGroups Round(const RoundGptqParams& params, Executor& executor) {
    const RoundInput input{testing::View(weight_), ranges_.get()};
    absl::StatusOr<GptqRounding> rounded =
        RoundGptq({&input, 1}, scales_, model_, format_, params, executor);
    EXPECT_TRUE(rounded.ok()) << rounded.status();
    EXPECT_EQ(rounded->damping, params.damping);
    return std::move(rounded->groups.front());
  }

  double Loss(const AffineGroups& groups, double damping = 0.2) {
    return DampedLoss(weight_, scales_, groups, x_, damping);
  }

  SerialExecutor serial_;
  Matrix x_;
  LossModel model_;
  Matrix weight_;
  std::vector<float> scales_;
  WeightFormat format_;
  std::unique_ptr<Ranges> ranges_;
};

// Property: steps 2 and 3 never raise the damped loss (round_gptq.h), and here all lower it.
TEST_P(RoundGptqTest, EveryStepLowersTheDampedLoss) {
  const double nearest =
      Loss(*RoundNearest(testing::View(weight_), scales_, *ranges_, format_, serial_));
  for (const bool act_order : {false, true}) {
    RoundGptqParams params = FeedbackOnly(0.2f, act_order);
    const double fed_back = Loss(Round(params, serial_));
    EXPECT_LT(fed_back, nearest);
    params.descent_sweeps = 1;
    const double swept = Loss(Round(params, serial_));
    EXPECT_LT(swept, fed_back);
    params.descent_sweeps = 4;  // all of them, though no refit follows
    EXPECT_LT(Loss(Round(params, serial_)), swept);
    params.refits = 1;
    params.descent_sweeps = 0;
    const double refitted = Loss(Round(params, serial_));
    EXPECT_LT(refitted, fed_back);
    params.refits = 2;
    params.descent_sweeps = 4;
    EXPECT_LT(Loss(Round(params, serial_)), std::min(swept, refitted));
  }
}

TEST_P(RoundGptqTest, ScalesStayPositiveRepresentableAndCodesInRange) {
  const AffineGroups groups = Round({}, serial_);
  for (float scale : groups.scales) {
    EXPECT_GT(scale, 0);
    EXPECT_EQ(scale, RoundToF16(scale));
  }
  for (uint8_t code : groups.codes) EXPECT_LE(code, format_.MaxCode());
  for (size_t i = 0; i < groups.zero_points.size(); ++i) {
    EXPECT_EQ(groups.zero_points[i], ranges_->zero_points[i]);
  }
}

TEST_P(RoundGptqTest, BytesDoNotDependOnTheExecutor) {
  const AffineGroups alone = Round({.descent_sweeps = 4, .refits = 2}, serial_);
  for (const int count : {1, 2, 3}) {
    testing::ThreadExecutor threads(count);
    const AffineGroups together = Round({.descent_sweeps = 4, .refits = 2}, threads);
    EXPECT_EQ(alone.codes, together.codes);
    EXPECT_EQ(alone.scales, together.scales);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RoundGptqTest,
                         ::testing::Values(GptqCase{256, 128, 4, false}, GptqCase{256, 32, 3, true},
                                           GptqCase{172, 43, 4, false}, GptqCase{384, 384, 4, true},
                                           GptqCase{640, 16, 2, false}));

struct GoldenCase {
  std::string prefix;
  int bits;
  int64_t group_size;
  bool symmetric;
  std::string damping;
};

// The paper's own steps in f64 (tests/interop/quantize_np.py): the inverse of the damped H, its
// Cholesky factor, errors spread block by block. f32 may break a tie differently, and what comes
// after it in that row then follows from it.
class RoundGptqGolden {
 public:
  RoundGptqGolden(const Matrix& x, const Matrix& weight, std::vector<float> scales)
      : golden_("round_gptq"),
        x_(x),
        model_(testing::DirectStatistics(x)),
        weight_(weight),
        scales_(std::move(scales)) {}

  void Check(const GoldenCase& c, bool act_order) {
    const std::string name = c.prefix + "." + std::to_string(c.bits) + "." +
                             std::to_string(c.group_size) + "." + (c.symmetric ? "1." : "0.") +
                             c.damping + (act_order ? ".1" : ".0");
    SCOPED_TRACE(name);
    WeightFormat format;
    format.bits = c.bits;
    format.group_size = c.group_size;
    format.symmetric = c.symmetric;
    Ranges ranges(weight_.rows(), weight_.cols() / c.group_size);
    ranges.scales = golden_.Read<float>(name + ".scales");
    const std::vector<uint8_t> zero_points = golden_.Read<uint8_t>(name + ".zero_points");
    ranges.zero_points.assign(zero_points.begin(), zero_points.end());
    const RoundInput input{testing::View(weight_), &ranges};
    SerialExecutor serial;
    const auto rounded = RoundGptq({&input, 1}, scales_, model_, format,
                                   FeedbackOnly(std::stof(c.damping), act_order), serial);
    ASSERT_TRUE(rounded.ok()) << rounded.status();
    const AffineGroups& groups = rounded->groups.front();
    const std::vector<uint8_t> codes = golden_.Read<uint8_t>(name + ".codes");
    ASSERT_EQ(codes.size(), groups.codes.size());
    int64_t unequal = 0;
    for (size_t i = 0; i < codes.size(); ++i) unequal += codes[i] != groups.codes[i] ? 1 : 0;
    EXPECT_LE(static_cast<double>(unequal), 1e-3 * static_cast<double>(codes.size()));
    unequal_ += unequal;
    all_ += static_cast<int64_t>(codes.size());
    const double loss = golden_.Read<double>(name + ".loss").front();
    EXPECT_NEAR(DampedLoss(weight_, scales_, groups, x_, 0), loss, 1e-4 * loss);
  }

  void CheckShare() const {
    EXPECT_LE(static_cast<double>(unequal_), 1e-4 * static_cast<double>(all_)) << unequal_;
  }

 private:
  Golden golden_;
  const Matrix& x_;
  LossModel model_;
  const Matrix& weight_;
  std::vector<float> scales_;
  int64_t unequal_ = 0;
  int64_t all_ = 0;
};

TEST(RoundGptqGoldenTest, CodesAreThoseOfThePapersSteps) {
  const Golden inputs("inputs");
  const Matrix x = inputs.Halves("x", 256);
  const Matrix first = inputs.Halves("0.weight", 256);
  const Matrix second = inputs.Halves("1.weight", 256);
  Matrix weight(first.rows() + second.rows(), 256);
  std::copy_n(first.data(), first.rows() * 256, weight.data());
  std::copy_n(second.data(), second.rows() * 256, weight.Row(first.rows()));
  RoundGptqGolden golden(x, weight, Golden("scale_awq").Read<float>("s"));
  for (const GoldenCase& c : std::vector<GoldenCase>{{"common", 4, 64, false, "0.2"},
                                                     {"common", 4, 256, true, "0.2"},
                                                     {"common", 3, 32, false, "0.05"},
                                                     {"common", 2, 128, false, "1.0"},
                                                     {"common", 8, 64, true, "0.01"}}) {
    golden.Check(c, false);
    golden.Check(c, true);
  }
  golden.CheckShare();
}

// 1500 columns, twelve panels and the last not whole, of 48 tokens: H is singular.
TEST(RoundGptqGoldenTest, WideCodesAreThoseOfThePapersSteps) {
  const Golden file("round_gptq");
  const Matrix x = file.Halves("wide.x", 1500);
  const Matrix weight = file.Halves("wide.weight", 1500);
  RoundGptqGolden golden(x, weight, std::vector<float>(1500, 1.0f));
  for (const GoldenCase& c :
       std::vector<GoldenCase>{{"wide", 4, 100, false, "0.2"}, {"wide", 3, 300, true, "0.05"}}) {
    golden.Check(c, false);
    golden.Check(c, true);
  }
  golden.CheckShare();
}

// Rounds, with whatever it is given, a weight [8, 64] on X and groups of 32.
struct SmallRounding {
  absl::StatusOr<GptqRounding> rounded;
  AffineGroups nearest;
};

SmallRounding RoundSmall(const Statistics& statistics, const RoundGptqParams& params) {
  const LossModel model(statistics);
  const Matrix w = testing::GaussianMatrix(4, 8, statistics.params.in_features);
  const std::vector<float> ones(static_cast<size_t>(statistics.params.in_features), 1.0f);
  WeightFormat format;
  format.group_size = 32;
  SerialExecutor executor;
  const Ranges ranges = *RangeMinMax(testing::View(w), ones, format, false, executor);
  const RoundInput input{testing::View(w), &ranges};
  return {RoundGptq({&input, 1}, ones, model, format, params, executor),
          *RoundNearest(testing::View(w), ones, ranges, format, executor)};
}

TEST(RoundGptqSmallTest, ChannelsThatNeverFiredAreRoundedToNearest) {
  Matrix x = testing::GaussianMatrix(5, 200, 64);
  for (int64_t t = 0; t < x.rows(); ++t) x.Row(t)[3] = x.Row(t)[40] = 0;
  for (const float damping : {0.0f, 0.2f}) {
    const auto [rounded, nearest] = RoundSmall(testing::DirectStatistics(x), FeedbackOnly(damping));
    ASSERT_TRUE(rounded.ok()) << rounded.status();
    EXPECT_EQ(rounded->damping, damping);
    for (int64_t row = 0; row < 8; ++row) {
      for (int64_t column : {3, 40}) {
        EXPECT_EQ(rounded->groups[0].codes[row * 64 + column], nearest.codes[row * 64 + column]);
      }
    }
    EXPECT_NE(rounded->groups[0].codes, nearest.codes);
  }
}

TEST(RoundGptqSmallTest, AllChannelsDeadIsRoundToNearest) {
  const auto [rounded, nearest] =
      RoundSmall(testing::DirectStatistics(Matrix(10, 64)), FeedbackOnly());
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  EXPECT_EQ(rounded->groups[0].codes, nearest.codes);
}

TEST(RoundGptqSmallTest, DampingIsRaisedWhereTheMatrixIsSingular) {
  const Statistics singular = testing::DirectStatistics(testing::GaussianMatrix(6, 20, 64));
  const auto [rounded, nearest] = RoundSmall(singular, FeedbackOnly(0));
  ASSERT_TRUE(rounded.ok()) << rounded.status();
  EXPECT_EQ(rounded->damping, 0.01f);
  const auto same = RoundSmall(singular, FeedbackOnly(0.01f));
  ASSERT_TRUE(same.rounded.ok()) << same.rounded.status();
  EXPECT_EQ(same.rounded->groups[0].codes, rounded->groups[0].codes);
}

TEST(RoundGptqSmallTest, AMatrixThatNoDampingHelpsIsAnError) {
  Statistics broken = testing::DirectStatistics(testing::GaussianMatrix(6, 100, 64));
  // No two columns have a product that is larger than both of their squares.
  broken.gram[1 * 64 + 2] = broken.gram[2 * 64 + 1] =
      WordOf(1e6 * testing::ValuesOf(broken).gram[1 * 65],
             FrameOf(broken.square_exponents[1] + broken.square_exponents[2], 0));
  const auto [rounded, nearest] = RoundSmall(broken, {});
  EXPECT_EQ(rounded.status().code(), absl::StatusCode::kInternal);
}

TEST(RoundGptqSmallTest, StatisticsWithoutTheWholeGramAreRefusedWithWhatToDo) {
  StatisticsParams params;
  params.in_features = 64;
  params.block_width = 32;
  params.exact_gram_limit = 32;
  auto accumulator = StatisticsAccumulator::Create("group", params);
  ASSERT_TRUE(accumulator.ok());
  const Matrix x = testing::GaussianMatrix(7, 40, 64);
  SerialExecutor serial;
  ASSERT_TRUE(
      accumulator
          ->Fold(0, 0, DType::kF32, reinterpret_cast<const std::byte*>(x.data()), x.rows(), serial)
          .ok());
  const auto [rounded, nearest] = RoundSmall(*std::move(*accumulator).Finish(serial), {});
  EXPECT_EQ(rounded.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(rounded.status().message()).find("exact_gram_limit is at least 64"),
            std::string::npos)
      << rounded.status();
}

TEST(RoundGptqSmallTest, ParamsOutOfRangeNameTheField) {
  for (const auto& [params, field] : std::vector<std::pair<RoundGptqParams, std::string>>{
           {{.damping = -1}, "damping"},
           {{.damping = 10.5f}, "damping"},
           {{.damping = std::nanf("")}, "damping"},
           {{.descent_sweeps = 65}, "descent_sweeps"},
           {{.refits = -1}, "refits"}}) {
    const absl::Status status = ValidateRoundGptqParams(params);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(status.message()).find(field), std::string::npos) << status;
  }
}

// Lets `tasks` tasks run and is cancelled then.
class CancelledExecutor final : public Executor {
 public:
  explicit CancelledExecutor(int64_t tasks) : left_(tasks) {}

  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override {
    for (int64_t i = 0; i < count; ++i) {
      if (left_-- <= 0) return absl::CancelledError("enough");
      if (absl::Status status = task(i); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
  int Concurrency() const override { return 1; }

 private:
  int64_t left_;
};

TEST(RoundGptqSmallTest, IsCancelledWhereverItIs) {
  const Matrix x = testing::Activations(8, 50, 300);
  const LossModel model(testing::DirectStatistics(x));
  const Matrix w = testing::GaussianMatrix(9, 130, 300);
  const std::vector<float> ones(300, 1.0f);
  WeightFormat format;
  format.group_size = 100;
  SerialExecutor serial;
  const Ranges ranges = *RangeMinMax(testing::View(w), ones, format, false, serial);
  const RoundInput input{testing::View(w), &ranges};
  // Twice 5 tiles of A, 3 diagonal blocks and 3 others, 3 tiles of rows, 5 panels that descend.
  constexpr int64_t kTasks = 24;
  const RoundGptqParams params{.descent_sweeps = 4, .refits = 2};
  for (int64_t tasks = 0; tasks < kTasks; ++tasks) {
    CancelledExecutor executor(tasks);
    const auto rounded = RoundGptq({&input, 1}, ones, model, format, params, executor);
    EXPECT_EQ(rounded.status().code(), absl::StatusCode::kCancelled) << tasks;
  }
  CancelledExecutor executor(kTasks);
  EXPECT_TRUE(RoundGptq({&input, 1}, ones, model, format, params, executor).ok());
}

}  // namespace
}  // namespace salient
