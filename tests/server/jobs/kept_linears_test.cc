#include "server/jobs/kept_linears.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/model/families/family.h"
#include "core/result/module_override.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "tests/core/engines/model_descriptions.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Returns hidden 96, 3 heads of 32, inner 256: 128 divides the inputs of down_proj alone.
ModelConfig NarrowConfig() {
  ModelConfig config = testing::LargeConfig();
  config.hidden_size = 96;
  config.intermediate_size = 256;
  config.num_hidden_layers = 5;
  config.num_attention_heads = 3;
  config.num_key_value_heads = 3;
  config.head_dim = 32;
  return config;
}

std::vector<std::string> WarningsOf(const ModelConfig& config, int64_t group_size,
                                    OutputFormat output,
                                    const std::vector<ModuleOverride>& overrides = {}) {
  QuantizedCheckpointParams params;
  params.stored = {{4, group_size, false, DType::kF16}, output};
  params.overrides = overrides;
  return KeptWarnings(*PlanModel(config), params);
}

TEST(KeptLinearsTest, ACauseIsToldOnceWithWhatWouldHelp) {
  EXPECT_THAT(
      WarningsOf(NarrowConfig(), 128, OutputFormat::kAwqGemm),
      ElementsAre(
          "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj of all 5 blocks are "
          "not quantized: group_size 128 does not divide in_features 96; with group_size 32 "
          "all would be quantized"));
  EXPECT_THAT(WarningsOf(NarrowConfig(), 32, OutputFormat::kAwqGemm), IsEmpty());
}

TEST(KeptLinearsTest, EachCauseIsToldAndNothingIsPromisedThatDoesNotHelp) {
  ModelConfig config = NarrowConfig();
  // It is no multiple of 8, which the outputs of awq-gemm have to be.
  config.intermediate_size = 172;
  EXPECT_THAT(
      WarningsOf(config, 32, OutputFormat::kAwqGemm),
      ElementsAre("gate_proj, up_proj of all 5 blocks are not quantized: out_features is 172; "
                  "expected a multiple of 8 for awq-gemm of 4 bits; compressed-tensors "
                  "holds any",
                  "down_proj of all 5 blocks are not quantized: group_size 32 does not divide "
                  "in_features 172"));
}

TEST(KeptLinearsTest, NobodyIsToldOfWhatAnOverrideSkips) {
  ModuleOverride skip;
  skip.module = "model.layers.2.mlp.down_proj";
  skip.skip = true;
  EXPECT_THAT(WarningsOf(NarrowConfig(), 32, OutputFormat::kAwqGemm, {skip}), IsEmpty());
  EXPECT_THAT(WarningsOf(NarrowConfig(), 128, OutputFormat::kAwqGemm, {skip}), SizeIs(1));
}

}  // namespace
}  // namespace salient
