#include "core/result/quantizable_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/model/families/family.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/llama_places.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// hidden 64, 8 query heads and 2 kv heads of 12, inner 172: o_proj reads 96 columns, down_proj 172.
ModelConfig GroupsConfig() {
  ModelConfig config;
  config.source = "dir/config.json";
  config.architecture = "LlamaForCausalLM";
  config.hidden_size = 64;
  config.intermediate_size = 172;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 2;
  config.head_dim = 12;
  return config;
}

absl::StatusOr<std::vector<BlockFits>> FitsOfBlocks(
    int bits, int64_t group_size, OutputFormat output, bool strict = false,
    const std::vector<ModuleOverride>& overrides = {}) {
  const ModelConfig config = GroupsConfig();
  return QuantizableGroups(*PlanModel(config), {{bits, group_size, false, DType::kF16}, output},
                           strict, overrides);
}

// Returns the fits of the first block; all are alike.
absl::StatusOr<BlockFits> Fits(int bits, int64_t group_size, OutputFormat output,
                               bool strict = false) {
  const auto blocks = FitsOfBlocks(bits, group_size, output, strict);
  if (!blocks.ok()) return blocks.status();
  EXPECT_EQ(blocks->size(), 2u);
  for (size_t i = 0; i < testing::llama::kGroups; ++i) {
    EXPECT_EQ((*blocks)[0][i].fits, (*blocks)[1][i].fits);
    EXPECT_EQ((*blocks)[0][i].why, (*blocks)[1][i].why);
  }
  return (*blocks)[0];
}

std::array<bool, testing::llama::kGroups> Which(const BlockFits& fits) {
  return {fits[0].fits, fits[1].fits, fits[2].fits, fits[3].fits};
}

TEST(QuantizableGroupsTest, OneLinearThatDoesNotFitKeepsItsGroup) {
  const auto fits = Fits(4, 32, OutputFormat::kAwqGemm);
  ASSERT_TRUE(fits.ok()) << fits.status();
  // up_proj and gate_proj have 172 outputs, no multiple of 8; down_proj as many inputs.
  EXPECT_THAT(Which(*fits), ElementsAre(true, true, false, false));
  EXPECT_EQ((*fits)[0].why, "");
  EXPECT_EQ((*fits)[2].why,
            "mlp.gate_proj: out_features is 172; expected a multiple of 8 for awq-gemm of 4 bits; "
            "compressed-tensors holds any");
  EXPECT_EQ((*fits)[3].why,
            "mlp.down_proj: group_size is 32; expected a divisor of in_features, which is 172");
}

TEST(QuantizableGroupsTest, DecodedWeightsMayHaveAnyNumberOfOutputsAndAnyWidth) {
  for (const int bits : {2, 3, 8}) {
    const auto fits = Fits(bits, 32, OutputFormat::kDequantizedFp16);
    ASSERT_TRUE(fits.ok()) << fits.status();
    EXPECT_THAT(Which(*fits), ElementsAre(true, true, true, false));
  }
  const auto whole_rows = Fits(3, -1, OutputFormat::kDequantizedFp16);
  ASSERT_TRUE(whole_rows.ok()) << whole_rows.status();
  EXPECT_THAT(Which(*whole_rows), ElementsAre(true, true, true, true));
}

TEST(QuantizableGroupsTest, StrictMakesTheFirstFaultAnError) {
  const absl::Status status = Fits(4, 32, OutputFormat::kAwqGemm, /*strict=*/true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("dir/config.json: mlp.gate_proj: out_features is 172"));
}

TEST(QuantizableGroupsTest, NothingThatFitsIsAnError) {
  const absl::Status status = Fits(4, 128, OutputFormat::kAwqGemm).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()),
            "dir/config.json: nothing to quantize; self_attn.q_proj: group_size is 128; expected a "
            "divisor of in_features, which is 64");
}

constexpr char kDown1[] = "model.layers.1.mlp.down_proj";
constexpr char kOutput0[] = "model.layers.0.self_attn.o_proj";

TEST(QuantizableGroupsTest, OverridesChangeTheirOwnBlockAlone) {
  const auto blocks = FitsOfBlocks(4, 4, OutputFormat::kDequantizedFp16, false,
                                   {{kDown1, 8, 0, false},
                                    {kOutput0, 0, 32, false},
                                    {"model.layers.0.mlp.gate_proj", 0, 0, true},
                                    {"model.layers.0.mlp.up_proj", 0, 0, true}});
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_THAT(Which((*blocks)[0]), ElementsAre(true, true, false, true));
  EXPECT_THAT(Which((*blocks)[1]), ElementsAre(true, true, true, true));
  EXPECT_TRUE((*blocks)[0][2].asked);
  EXPECT_EQ((*blocks)[0][1].format.bits, 4);
  EXPECT_EQ((*blocks)[0][1].format.group_size, 32);
  EXPECT_EQ((*blocks)[0][3].format.bits, 4);
  EXPECT_EQ((*blocks)[1][3].format.bits, 8);
  EXPECT_EQ((*blocks)[1][3].format.group_size, 4);
}

// Checks what a limit of error can do to a group: 8 bits, unless it has them or the layout has one
// width.
TEST(QuantizableGroupsTest, OnlyNarrowCodesInLayoutsThatMixHaveAWiderFormat) {
  const auto mixed = Fits(3, 4, OutputFormat::kDequantizedFp16);
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  ASSERT_TRUE((*mixed)[0].wider.has_value());
  EXPECT_EQ((*mixed)[0].wider->bits, 8);
  EXPECT_EQ((*mixed)[0].wider->group_size, 4);
  EXPECT_FALSE((*Fits(8, 4, OutputFormat::kDequantizedFp16))[0].wider.has_value());
  EXPECT_FALSE((*Fits(4, 4, OutputFormat::kAwqGemm))[0].wider.has_value());
}

TEST(QuantizableGroupsTest, OverridesThatCannotBeAreRefusedWithWhatCan) {
  struct Case {
    OutputFormat output;
    std::vector<ModuleOverride> overrides;
    std::vector<const char*> says;
  };
  const std::string query = "model.layers.0.self_attn.q_proj";
  const std::string key = "model.layers.0.self_attn.k_proj";
  const std::string value = "model.layers.0.self_attn.v_proj";
  const OutputFormat plain = OutputFormat::kDequantizedFp16;
  const Case cases[] = {
      {plain,
       {{"model.layers.2.mlp.down_proj", 8, 0, false}},
       {"\"model.layers.2.mlp.down_proj\"", "no Linear", "model.layers.0.mlp.down_proj",
        "block 0 to 1"}},
      {plain, {{"lm_head", 0, 0, true}}, {"\"lm_head\"", "no Linear"}},
      {plain, {{kDown1, 8, 0, false}, {kDown1, 0, 0, true}}, {kDown1, "twice"}},
      {plain, {{kDown1, 0, 0, false}}, {kDown1, "says nothing", "bits, group_size or skip"}},
      {plain, {{kDown1, 8, 0, true}}, {kDown1, "one of the two"}},
      {plain, {{kDown1, 9, 0, false}}, {kDown1, "bits is 9", "2 to 8"}},
      {plain, {{kDown1, 1, 0, false}}, {kDown1, "bits is 1", "2 to 8"}},
      {plain, {{kDown1, 0, -3, false}}, {kDown1, "group_size is -3"}},
      // It has 172 columns.
      {plain, {{kDown1, 0, 32, false}}, {kDown1, "group_size is 32", "in_features, which is 172"}},
      {plain,
       {{query, 8, 0, false}},
       {query.c_str(), "8 bits", "4 bits", "fuse", key.c_str(), value.c_str()}},
      {plain, {{query, 0, 0, true}, {key, 0, 0, true}}, {"stay F16", "fuse", value.c_str()}},
      {plain,
       {{"model.layers.1.mlp.up_proj", 0, 32, false}},
       {"groups of 32", "fuse", "model.layers.1.mlp.gate_proj"}},
      {OutputFormat::kAwqGemm,
       {{kOutput0, 8, 0, false}},
       {kOutput0, "8 bits", "awq-gemm has one format", "skip", "compressed-tensors",
        "dequantized-fp16"}},
      {OutputFormat::kAwqGemm, {{kOutput0, 0, 32, false}}, {kOutput0, "groups of 32"}},
  };
  for (const Case& c : cases) {
    const absl::Status status = FitsOfBlocks(4, 4, c.output, false, c.overrides).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.says.front();
    for (const char* text : c.says) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    }
  }
}

// Saying what is so anyway is no change: it parts nobody, and a layout of one width takes it.
TEST(QuantizableGroupsTest, AnOverrideThatChangesNothingIsFine) {
  const auto blocks = FitsOfBlocks(4, 4, OutputFormat::kAwqGemm, false,
                                   {{"model.layers.0.self_attn.q_proj", 4, 0, false}});
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ((*blocks)[0][0].format.bits, 4);
}

TEST(QuantizableGroupsTest, SkippingWhatIsLeftIsAnError) {
  // Only o_proj's 96 columns are a multiple of 96.
  const std::vector<ModuleOverride> both = {{kOutput0, 0, 0, true},
                                            {"model.layers.1.self_attn.o_proj", 0, 0, true}};
  EXPECT_TRUE(FitsOfBlocks(4, 96, OutputFormat::kDequantizedFp16).ok());
  const absl::Status status =
      FitsOfBlocks(4, 96, OutputFormat::kDequantizedFp16, false, both).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("nothing to quantize"));
}

}  // namespace
}  // namespace salient
