#include "core/cost/study_cost.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/config/model/model_config.h"
#include "core/group/round_linears.h"
#include "core/quantize/quantize_model.h"
#include "tests/core/cost/cost_example.h"
#include "tests/core/model/small_model.h"
#include "tests/support/planned_model.h"

namespace salient {
namespace {

using testing::CostExample;
using testing::Gemm;
using testing::Must;

// Five models are run; every weight's loss is evaluated five times, without a weight among them.
// qkv, o and gate/up read 512 channels, whose Gram is kept: of its pieces of 256 columns one side
// is multiplied. down reads 1408, in blocks of 256 with a sketch of 256 rows.
TEST(StudyCostTest, IsThatOfItsParts) {
  const std::vector<int64_t> one = {64};
  const std::vector<int64_t> two = {64, 64};
  QuantizeModelParams rounding;
  rounding.method = kPlainRounding;
  const double row =
      Gemm(Must(CostOfQuantizing(testing::Planned(CostExample()), two, rounding, 1))) -
      Gemm(Must(CostOfQuantizing(testing::Planned(CostExample()), one, rounding, 1)));
  const double evaluating =
      5 * Gemm(Must(CostOfEvaluating(testing::Planned(CostExample()), two, 1, 1)));
  const double narrow = 512 * (1024 + 512 + 2816);
  const double wide = 1408 * 512;
  const double losses = 3 * 5 * 2 * (narrow * (256.0 + 512) / 2 + wide * (256 + 256));
  const StudyCost cost = Must(CostOfStudying(testing::Planned(CostExample()), one, two, {}, 1));
  EXPECT_NEAR(Gemm(cost.total) / (row + evaluating + losses), 1, 1e-12);
  EXPECT_GT(cost.evaluation_share, 0.1);
  EXPECT_LT(cost.evaluation_share, 0.9);
  const StudyCost more = Must(CostOfStudying(testing::Planned(CostExample()), two, two, {}, 1));
  EXPECT_NEAR(Gemm(more.total) - Gemm(cost.total), row, 1e-9 * row);
  EXPECT_LT(more.evaluation_share, cost.evaluation_share);
}

// A block of each model: one as it is stored, in 16 bits, four decoded.
TEST(StudyCostTest, HoldsABlockOfEachModel) {
  const std::vector<int64_t> rows = {64};
  ModelConfig config = CostExample();
  config.vocab_size = 64;  // heads are small beside blocks
  const StudyCost cost = Must(CostOfStudying(testing::Planned(config), rows, rows, {}, 1));
  const int64_t block = 512 * (512 + 256 + 256 + 512) + 3 * 512 * 1408;
  EXPECT_GT(cost.total.memory_bytes, 18 * block);
  EXPECT_LT(cost.total.memory_bytes, 2 * 18 * block);
  config.num_hidden_layers = 30;
  EXPECT_EQ(Must(CostOfStudying(testing::Planned(config), rows, rows, {}, 1)).total.memory_bytes,
            cost.total.memory_bytes);
}

TEST(StudyCostTest, WhatCannotBeStudiedHasNoCost) {
  StudyModelParams params;
  params.block.format.bits = 1;
  EXPECT_EQ(CostOfStudying(testing::Planned(CostExample()), {64}, {64}, params, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace salient
