#include "core/quantizable_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// hidden 64, 8 query heads and 2 kv heads of 12, inner 172: o_proj reads 96 columns, down_proj 172.
ModelConfig Config() {
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

absl::StatusOr<std::array<GroupFit, kGroupRoles>> Fits(int bits, int64_t group_size,
                                                       OutputFormat output, bool strict = false) {
  const ModelConfig config = Config();
  return QuantizableGroups(**FindFamily(config), config,
                           {{bits, group_size, false, DType::kF16}, output}, strict);
}

std::array<bool, kGroupRoles> Which(const std::array<GroupFit, kGroupRoles>& fits) {
  return {fits[0].fits, fits[1].fits, fits[2].fits, fits[3].fits};
}

TEST(QuantizableGroupsTest, OneLinearThatDoesNotFitKeepsItsGroup) {
  const auto fits = Fits(4, 32, OutputFormat::kAwqGemm);
  ASSERT_TRUE(fits.ok()) << fits.status();
  // up_proj and gate_proj have 172 outputs, no multiple of 8; down_proj as many inputs.
  EXPECT_THAT(Which(*fits), ElementsAre(true, true, false, false));
  EXPECT_EQ((*fits)[0].why, "");
  EXPECT_EQ((*fits)[2].why,
            "mlp.gate_proj: out_features is 172; expected a multiple of 8 for awq-gemm");
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

}  // namespace
}  // namespace salient
