#include "core/cost/work_count.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/cost/model_cost.h"
#include "core/method/scale_candidates.h"
#include "core/method/scale_smoothquant.h"
#include "core/model/activations.h"
#include "core/model/families/family.h"
#include "core/quantize/quantize_model.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/small_model.h"
#include "tests/support/planned_model.h"

namespace salient {
namespace {

using testing::Must;

ModelConfig Config() {
  ModelConfig config;
  config.source = "config.json";
  config.architecture = "LlamaForCausalLM";
  config.hidden_size = 2048;
  config.intermediate_size = 4096;
  config.num_hidden_layers = 4;
  config.num_attention_heads = 16;
  config.num_key_value_heads = 4;
  config.head_dim = 128;
  config.vocab_size = 1000;
  config.tie_word_embeddings = true;
  return config;
}

constexpr double kParameters = 2048.0 * (2048 + 512 + 512 + 2048) + 3 * 2048.0 * 4096;

StageWork Quantizing(int64_t rows, int64_t layers, const Method& method) {
  ModelConfig config = Config();
  config.num_hidden_layers = layers;
  QuantizeModelParams params;
  params.method = method;
  return Must(CostOfQuantizing(testing::Planned(config),
                               std::vector<int64_t>(static_cast<size_t>(rows), 512), params, 1))
      .stages;
}

const Work& Of(const StageWork& stages, Stage stage) { return stages[static_cast<size_t>(stage)]; }

double Flop(const Work& work) { return work.bf16_flop + work.f32_flop; }

constexpr std::array<Stage, 2> kOfRows = {Stage::kForward, Stage::kStatistics};
constexpr std::array<Stage, 6> kOfWeights = {Stage::kRead,     Stage::kScaleSearch, Stage::kRange,
                                             Stage::kRounding, Stage::kLoss,        Stage::kPack};

TEST(WorkCountTest, OnlyCalibrationGrowsWithItsRows) {
  const StageWork few = Quantizing(8, 4, {});
  const StageWork many = Quantizing(32, 4, {});
  for (const Stage stage : kOfWeights) {
    EXPECT_DOUBLE_EQ(Flop(Of(many, stage)), Flop(Of(few, stage))) << static_cast<int>(stage);
    EXPECT_DOUBLE_EQ(Of(many, stage).bytes, Of(few, stage).bytes) << static_cast<int>(stage);
  }
  EXPECT_DOUBLE_EQ(Flop(Of(many, Stage::kForward)), 4 * Flop(Of(few, Stage::kForward)));
  EXPECT_DOUBLE_EQ(Flop(Of(many, Stage::kStatistics)), 4 * Flop(Of(few, Stage::kStatistics)));
}

TEST(WorkCountTest, EveryStageGrowsWithTheLayers) {
  const StageWork shallow = Quantizing(8, 2, {});
  const StageWork deep = Quantizing(8, 4, {});
  for (size_t i = 0; i < kStages; ++i) {
    if (static_cast<Stage>(i) == Stage::kWrite) continue;  // Embeddings are written, too.
    EXPECT_DOUBLE_EQ(deep[i].bytes, 2 * shallow[i].bytes) << i;
    EXPECT_DOUBLE_EQ(Flop(deep[i]), 2 * Flop(shallow[i])) << i;
    EXPECT_DOUBLE_EQ(deep[i].vector_flop, 2 * shallow[i].vector_flop) << i;
  }
}

TEST(WorkCountTest, AChoiceThatIsNotMadeCostsNothingInItsStage) {
  const StageWork none = Quantizing(
      8, 4, {ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false});
  EXPECT_EQ(Flop(Of(none, Stage::kScaleSearch)), 0);
  EXPECT_EQ(Of(none, Stage::kScaleSearch).vector_flop, 0);
  EXPECT_EQ(Flop(Of(none, Stage::kRange)), 0);
  EXPECT_EQ(Flop(Of(none, Stage::kRounding)), 0);
  const StageWork all = Quantizing(8, 4, {});
  for (const Stage stage : {Stage::kScaleSearch, Stage::kRange, Stage::kRounding}) {
    EXPECT_GT(Flop(Of(all, stage)), 0) << static_cast<int>(stage);
    EXPECT_GT(Of(all, stage).bytes, Of(none, stage).bytes - 1) << static_cast<int>(stage);
  }
  for (const Stage stage : kOfRows) {
    EXPECT_DOUBLE_EQ(Flop(Of(all, stage)), Flop(Of(none, stage))) << static_cast<int>(stage);
  }
}

// On a sample of tokens every candidate of the search is measured in full, and AutoAWQ has fewer.
TEST(WorkCountTest, ASearchOnTokensMeasuresEveryCandidateOfItsMethod) {
  const auto searching = [](const Method& method) {
    QuantizeModelParams params;
    params.method = method;
    params.outputs = {{{8, kWholeRow, true, DType::kF32},
                       OutputFormat::kIntQuantized,
                       ActivationFormat::kDynamicToken}};
    const std::vector<int64_t> rows(8, 512);
    const ModelCost cost = Must(CostOfQuantizing(testing::Planned(Config()), rows, params, 1));
    return Flop(Of(cost.stages, Stage::kScaleSearch));
  };
  Method method;
  const double each = searching(method) / static_cast<double>(AllScaleCandidates(false).size());
  EXPECT_GT(each, 0);
  method.scale = ScaleChoice::kSmoothQuant;
  EXPECT_DOUBLE_EQ(searching(method), each * static_cast<double>(SmoothQuantCandidates().size()));
  method.scale = ScaleChoice::kAwq;
  method.rounding = RoundingChoice::kNearest;
  method.autoawq = true;
  EXPECT_DOUBLE_EQ(searching(method), each * static_cast<double>(AllScaleCandidates(true).size()));
}

// Nothing can be quantized without reading it: 2 bytes a weight.
TEST(WorkCountTest, WeightsAreReadOnceABlock) {
  EXPECT_DOUBLE_EQ(Of(Quantizing(8, 4, {}), Stage::kRead).bytes, 4 * 2 * kParameters);
  EXPECT_DOUBLE_EQ(Of(Quantizing(32, 4, {}), Stage::kRead).bytes, 4 * 2 * kParameters);
}

// A forward pass in f32 has the products of one in bfloat16, at another rate.
TEST(WorkCountTest, TheDtypeOfAForwardPassIsThatOfItsProducts) {
  const ModelConfig config = Config();
  const Model model = Must(PlanModel(config));
  WorkCount narrow(model, model.blocks.front());
  narrow.Forward(512, ComputeDType::kBF16);
  WorkCount wide(model, model.blocks.front());
  wide.Forward(512, ComputeDType::kF32);
  const Work& bf16 = Of(narrow.stages(), Stage::kForward);
  const Work& f32 = Of(wide.stages(), Stage::kForward);
  EXPECT_DOUBLE_EQ(Flop(bf16), Flop(f32));
  EXPECT_EQ(f32.bf16_flop, 0);
  EXPECT_GE(bf16.bf16_flop, 2 * 512 * kParameters);
}

}  // namespace
}  // namespace salient
