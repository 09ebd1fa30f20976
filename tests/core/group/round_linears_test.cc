// Baselines against the loss by its definition: rounding a whole Linear, decoding it, evaluating.
#include "core/group/round_linears.h"

#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

Statistics StatisticsOf(const Matrix& x) {
  StatisticsParams params;
  params.in_features = x.cols();
  SerialExecutor serial;
  StatisticsAccumulator accumulator = *StatisticsAccumulator::Create("g", params);
  const auto* bytes = reinterpret_cast<const std::byte*>(x.data());
  EXPECT_TRUE(accumulator.Fold(0, 0, DType::kF32, bytes, x.rows(), serial).ok());
  return *std::move(accumulator).Finish(serial);
}

class BaselinesTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(BaselinesTest, AreTheLossesOfRoundingAndOfTheWeightsThemselves) {
  const int64_t columns = GetParam();
  const Matrix x = testing::Activations(1, 192, columns);
  const LossModel model(StatisticsOf(x));
  const Matrix a = testing::GaussianMatrix(2, 70, columns, 0.05f);
  const Matrix b = testing::GaussianMatrix(3, 5, columns, 0.02f);
  std::vector<Linear> linears;
  for (const Matrix* w : {&a, &b}) {
    linears.push_back(
        {"linear",
         {DType::kF32, reinterpret_cast<const std::byte*>(w->data()), w->rows(), columns}});
  }
  std::vector<float> scales(static_cast<size_t>(columns));
  for (size_t j = 0; j < scales.size(); ++j) scales[j] = 1.0f + 0.01f * static_cast<float>(j % 7);
  WeightFormat format;
  format.group_size = 64;
  testing::ThreadExecutor executor(2);
  const auto baselines = Baselines(linears, scales, model, format, executor);
  ASSERT_TRUE(baselines.ok()) << baselines.status();
  for (size_t i = 0; i < linears.size(); ++i) {
    const Matrix& w = i == 0 ? a : b;
    const auto ranges = RangeMinMax(linears[i].weight, scales, format, false, executor);
    ASSERT_TRUE(ranges.ok());
    const auto groups = RoundNearest(linears[i].weight, scales, *ranges, format, executor);
    ASSERT_TRUE(groups.ok());
    Matrix errors(w.rows(), columns);
    for (int64_t row = 0; row < w.rows(); ++row) {
      groups->DecodeRow(row, errors.Row(row));
      for (int64_t j = 0; j < columns; ++j) {
        errors.Row(row)[j] = errors.Row(row)[j] / scales[j] - w.Row(row)[j];
      }
    }
    const double nearest = model.Evaluate(errors.data(), w.rows())->Value();
    const double energy = model.Evaluate(w.data(), w.rows())->Value();
    EXPECT_NEAR((*baselines)[i].nearest.Value(), nearest, 1e-5 * nearest);
    EXPECT_NEAR((*baselines)[i].energy.Value(), energy, 1e-3 * energy);

    // What is judged after rounding is the same loss.
    const auto rounded =
        RoundLinears({&linears[i], 1}, scales, model, kPlainRounding, format, executor);
    ASSERT_TRUE(rounded.ok());
    EXPECT_EQ(rounded->front().groups.codes, groups->codes);
    EXPECT_NEAR(rounded->front().loss.Value(), nearest, 1e-5 * nearest);
  }
}

// They are the whole Gram in one piece and in four with a rest, and a sketch.
INSTANTIATE_TEST_SUITE_P(Widths, BaselinesTest, ::testing::Values(192, 832, 1088));

}  // namespace
}  // namespace salient
