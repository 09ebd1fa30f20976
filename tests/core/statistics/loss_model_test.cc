#include "core/statistics/loss_model.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/method/scale_awq.h"
#include "core/method/scale_search.h"
#include "core/statistics/accumulator.h"
#include "core/tensor/dtype.h"
#include "core/tensor/weight_view.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/sanitizer.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::GaussianMatrix;

Statistics AccumulateRowsOf(const Matrix& x, int64_t tokens_per_row, StatisticsParams params,
                            Executor& executor) {
  params.in_features = x.cols();
  absl::StatusOr<StatisticsAccumulator> accumulator = StatisticsAccumulator::Create("x", params);
  EXPECT_TRUE(accumulator.ok()) << accumulator.status();
  for (int64_t row = 0; row < x.rows() / tokens_per_row; ++row) {
    const auto* bytes = reinterpret_cast<const std::byte*>(x.Row(row * tokens_per_row));
    const absl::Status status =
        accumulator->Fold(row, 0, DType::kF32, bytes, tokens_per_row, executor);
    EXPECT_TRUE(status.ok()) << status;
  }
  absl::StatusOr<Statistics> statistics = std::move(*accumulator).Finish(executor);
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  return *std::move(statistics);
}

TEST(LossModelTest, ExactLossIsTheOutputErrorToAHundredThousandth) {
  SerialExecutor executor;
  for (int64_t columns : {172, 256, 768, 1024}) {
    const Matrix x = testing::Activations(1, 512, columns);
    const LossModel model(AccumulateRowsOf(x, 128, {}, executor));
    ASSERT_TRUE(model.exact());
    const Matrix errors = GaussianMatrix(2, 8, columns, 0.01f);
    const absl::StatusOr<Loss> loss = model.Evaluate(errors.data(), 8);
    ASSERT_TRUE(loss.ok()) << loss.status();
    const double direct = testing::DirectLoss(errors.data(), 8, x);
    EXPECT_NEAR(loss->Value(), direct, 1e-5 * direct) << columns << " columns";
    EXPECT_EQ(loss->StandardError(), 0);
  }
}

TEST(LossModelTest, EstimateFallsWithinItsStandardErrors) {
  SerialExecutor executor;
  constexpr int64_t kColumns = 1536;
  const Matrix x = testing::Activations(3, 512, kColumns);
  const Matrix errors = GaussianMatrix(4, 16, kColumns, 0.01f);
  const double direct = testing::DirectLoss(errors.data(), 16, x);
  double deviations = 0;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    StatisticsParams params;
    params.seed = seed;
    const Statistics statistics = AccumulateRowsOf(x, 128, params, executor);
    EXPECT_TRUE(statistics.gram.empty());
    const absl::StatusOr<Loss> loss = LossModel(statistics).Evaluate(errors.data(), 16);
    ASSERT_TRUE(loss.ok()) << loss.status();
    const double z = (loss->Value() - direct) / loss->StandardError();
    EXPECT_LT(std::abs(z), 5) << "seed " << seed;
    deviations += z * z / 8;
  }
  // Neither claimed far too small nor far too large.
  EXPECT_GT(deviations, 0.1);
  EXPECT_LT(deviations, 4);
}

struct Stress {
  std::string name;
  Matrix (*activations)(int64_t tokens, int64_t columns);
};

Matrix Flat(int64_t tokens, int64_t columns) { return GaussianMatrix(5, tokens, columns); }

Matrix Salient(int64_t tokens, int64_t columns) {
  Matrix x = GaussianMatrix(6, tokens, columns);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 7; j < columns; j += 100) x.Row(t)[j] *= 24;
  }
  return x;
}

Matrix Shifted(int64_t tokens, int64_t columns) {
  Matrix x = GaussianMatrix(7, tokens, columns);
  const Matrix shift = GaussianMatrix(8, 1, columns, 2.0f);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 0; j < columns; ++j) x.Row(t)[j] += shift.data()[j];
  }
  return x;
}

Matrix Massive(int64_t tokens, int64_t columns) {
  Matrix x = GaussianMatrix(9, tokens, columns);
  const Matrix direction = GaussianMatrix(10, 1, columns);
  for (int64_t t = 0; t < tokens; t += 256) {
    for (int64_t j = 0; j < columns; ++j) x.Row(t)[j] = 30 * direction.data()[j];
  }
  return x;
}

class StressTest : public ::testing::TestWithParam<Stress> {};

// At a real width the candidate that the sketch picks is as good as the best one, judged by the
// whole Gram that production never has.
TEST_P(StressTest, SketchPicksACandidateWithinOneAndAHalfPercentOfTheBest) {
  if (testing::kUnderSanitizer) GTEST_SKIP() << "SKIPPED: takes minutes under a sanitizer";
  constexpr int64_t kColumns = 4096, kTokens = 2048;
  testing::ThreadExecutor executor(2);
  const Matrix x = GetParam().activations(kTokens, kColumns);
  const Matrix w = GaussianMatrix(11, 128, kColumns, 0.02f);
  const std::vector<WeightView> weights = {
      {DType::kF32, reinterpret_cast<const std::byte*>(w.data()), w.rows(), w.cols()}};

  const StatisticsParams production;
  const Statistics sketched = AccumulateRowsOf(x, 256, production, executor);
  ASSERT_TRUE(sketched.gram.empty());
  const LossModel estimate(sketched);
  ASSERT_FALSE(estimate.exact());
  ScaleAwqParams every_candidate;
  every_candidate.exhaustive = true;
  const absl::StatusOr<ScaleSearch> chosen =
      SearchAwqScale(weights, sketched, estimate, {}, {}, executor);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  const absl::StatusOr<ScaleSearch> estimated =
      SearchAwqScale(weights, sketched, estimate, {}, every_candidate, executor);
  ASSERT_TRUE(estimated.ok()) << estimated.status();

  StatisticsParams whole;
  whole.exact_gram_limit = kColumns;
  const Statistics exact = AccumulateRowsOf(x, 256, whole, executor);
  const absl::StatusOr<ScaleSearch> truth =
      SearchAwqScale(weights, exact, LossModel(exact), {}, every_candidate, executor);
  ASSERT_TRUE(truth.ok()) << truth.status();

  double worst = 0;
  double best = truth->losses[0];
  double of_chosen = 0;
  for (size_t c = 0; c < truth->losses.size(); ++c) {
    worst = std::max(worst, std::abs(estimated->losses[c] / truth->losses[c] - 1));
    best = std::min(best, truth->losses[c]);
    if (truth->candidates[c] == chosen->chosen) of_chosen = truth->losses[c];
  }
  std::cout << GetParam().name << ": worst error of the estimate over " << truth->losses.size()
            << " candidates " << 100 * worst << " %, exact loss of the chosen one over the best "
            << of_chosen / best << "\n";
  EXPECT_LE(of_chosen, 1.015 * best);
  EXPECT_LE(worst, 0.02);
}

INSTANTIATE_TEST_SUITE_P(Sets, StressTest,
                         ::testing::Values(Stress{"flat", Flat}, Stress{"salient", Salient},
                                           Stress{"shifted", Shifted}, Stress{"massive", Massive}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace salient
