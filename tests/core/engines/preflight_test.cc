#include "core/engines/preflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/families/family.h"
#include "core/result/module_override.h"
#include "core/tensor/stored_format.h"
#include "tests/core/engines/model_descriptions.h"

namespace salient {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Stored;

class PreflightTest : public ::testing::Test {
 protected:
  // Two blocks of Qwen-72B's widths, or of others.
  void SetWidths(int64_t hidden, int64_t intermediate) {
    json_ = absl::StrCat(
        R"({"architectures": ["LlamaForCausalLM"], "hidden_size": )", hidden,
        R"(, "intermediate_size": )", intermediate,
        R"(, "num_hidden_layers": 2, "num_attention_heads": 64, "num_key_value_heads": 8,
             "vocab_size": 1024, "rms_norm_eps": 1e-06})");
  }

  absl::StatusOr<std::vector<std::string>> Check(const StoredFormat& stored,
                                                 const EngineRequest& request) {
    const Model model = PlanModel(ParseModelConfig("config.json", json_).value()).value();
    QuantizedCheckpointParams params;
    params.stored = stored;
    params.overrides = overrides_;
    const QuantizedCheckpointPlan plan = PlanQuantizedCheckpoint(model, json_, params).value();
    return CheckEngines(model, json_, {params, limits_error_}, plan, request);
  }

  std::string Refusal(const StoredFormat& stored, const EngineRequest& request) {
    const auto checked = Check(stored, request);
    EXPECT_EQ(checked.status().code(), absl::StatusCode::kInvalidArgument) << checked.status();
    return std::string(checked.status().message());
  }

  // Skips Linears; all that is fused with one of these stays F16.
  void Skip(const std::vector<std::string>& modules) {
    for (const std::string& module : modules) overrides_.push_back({module, 0, 0, true});
  }

  std::string json_;
  std::vector<ModuleOverride> overrides_;
  bool limits_error_ = false;
};

constexpr OutputFormat kAwq = OutputFormat::kAwqGemm;

TEST_F(PreflightTest, WhatAllOfThoseAskedForLoadPasses) {
  SetWidths(8192, 29568);
  const auto warnings =
      Check(Stored(kAwq, 4, 128, false), {{Engine::kVllm, Engine::kTgi, Engine::kLmdeploy}, 1});
  ASSERT_TRUE(warnings.ok()) << warnings.status();
  // llama.cpp alone does not read awq, and nobody asked for it.
  EXPECT_THAT(*warnings, IsEmpty());
}

TEST_F(PreflightTest, WholeRowsAreNotForTgi) {
  SetWidths(8192, 29568);
  EXPECT_THAT(
      Refusal(Stored(kAwq, 4, -1, false), {{Engine::kVllm, Engine::kTgi}, 1}),
      AllOf(HasSubstr(absl::StrCat("will not load in tgi as of ", EngineVersion(Engine::kTgi),
                                   ": model.layers.0.self_attn.q_proj: group_size is -1; tgi wants "
                                   "32, 64 or 128")),
            HasSubstr("the nearest that vllm and tgi load: group_size 128"),
            Not(HasSubstr("will not load in vllm"))));
}

TEST_F(PreflightTest, TheNearestGroupSizeFitsTheDevices) {
  SetWidths(8192, 29568);
  EXPECT_THAT(Refusal(Stored(kAwq, 4, 128, false), {{Engine::kVllm}, 2}),
              AllOf(HasSubstr("down_proj: in_features is 29568, which 2 devices share"),
                    HasSubstr("the nearest that vllm loads: group_size 64")));
  EXPECT_THAT(Refusal(Stored(kAwq, 4, 128, false), {{Engine::kVllm}, 4}),
              HasSubstr("the nearest that vllm loads: group_size 32"));
  const auto fits = Check(Stored(kAwq, 4, 64, false), {{Engine::kVllm}, 2});
  EXPECT_TRUE(fits.ok()) << fits.status();
}

// vLLM on CPUs reads gptq-v2 in symmetric 4 bits alone, and compressed-tensors in 4 bits.
TEST_F(PreflightTest, OneChangeIsNearerThanTwo) {
  SetWidths(8192, 29568);
  EXPECT_THAT(Refusal(Stored(OutputFormat::kGptqV2, 4, 16, false), {{Engine::kVllmCpu}, 1}),
              ::testing::EndsWith("the nearest that vllm-cpu loads: output_format "
                                  "compressed-tensors"));
  EXPECT_THAT(Refusal(Stored(OutputFormat::kGptqV2, 8, 32, false), {{Engine::kVllmCpu}, 1}),
              ::testing::EndsWith("the nearest that vllm-cpu loads: symmetric true, bits 4"));
}

TEST_F(PreflightTest, WithoutAWayOutTheRefusalSaysSo) {
  SetWidths(8192, 29568);
  // No format helps 64 heads on 3 devices.
  EXPECT_THAT(Refusal(Stored(kAwq, 4, 128, false), {{Engine::kVllm}, 3}),
              AllOf(HasSubstr("num_attention_heads is 64"),
                    HasSubstr("no other group_size, symmetry, width or output format loads in vllm "
                              "either")));
}

TEST_F(PreflightTest, WithoutAnEngineOneLineSaysWhichLoadIt) {
  SetWidths(8192, 29568);
  const auto warnings = Check(Stored(kAwq, 4, -1, false), {});
  ASSERT_TRUE(warnings.ok()) << warnings.status();
  EXPECT_THAT(
      *warnings,
      ElementsAre("the result loads in vllm, vllm-cpu, sglang and transformers; not in tgi, "
                  "lmdeploy and llama-cpp (inspect says why)"));
}

TEST_F(PreflightTest, WhatToMindIsSaidOfTheEnginesThatWereAskedFor) {
  SetWidths(8192, 29568);
  const auto warnings = Check(Stored(kAwq, 4, -1, false), {{Engine::kTransformers}, 1});
  ASSERT_TRUE(warnings.ok()) << warnings.status();
  EXPECT_THAT(*warnings, ElementsAre(HasSubstr("transformers: the ATen kernel for CPUs")));
}

// transformers has one format for all Linears of gptq, whatever dynamic says.
TEST_F(PreflightTest, MixedGptqIsNotForTransformers) {
  SetWidths(8192, 29568);
  for (const OutputFormat output : {OutputFormat::kGptq, OutputFormat::kGptqV2}) {
    overrides_ = {{"model.layers.1.mlp.down_proj", 8, 0, false}};
    EXPECT_THAT(Refusal(Stored(output, 4, 128, true), {{Engine::kTransformers}, 1}),
                AllOf(HasSubstr("model.layers.1.mlp.down_proj: bits is 8"),
                      HasSubstr("the nearest that transformers loads: bits 8")));
    overrides_ = {{"model.layers.1.mlp.down_proj", 0, 64, false}};
    EXPECT_THAT(Refusal(Stored(output, 4, 128, true), {{Engine::kTransformers}, 1}),
                HasSubstr("model.layers.1.mlp.down_proj: group_size is 64"));
    overrides_.clear();
    Skip({"model.layers.1.mlp.down_proj"});
    EXPECT_THAT(Refusal(Stored(output, 4, 128, true), {{Engine::kTransformers}, 1}),
                HasSubstr("model.layers.1.mlp.down_proj: is not quantized; transformers does not "
                          "look at dynamic"));
    // It is skipped in every block: modules_in_block_to_quantize says so.
    Skip({"model.layers.0.mlp.down_proj"});
    EXPECT_TRUE(Check(Stored(output, 4, 128, true), {{Engine::kTransformers}, 1}).ok());
    overrides_.clear();
    limits_error_ = true;
    EXPECT_THAT(Refusal(Stored(output, 4, 128, true), {{Engine::kTransformers}, 1}),
                HasSubstr("where max_relative_error leads to 8 bits, the result will not load in "
                          "transformers"));
    limits_error_ = false;
  }
}

TEST_F(PreflightTest, PlainWeightsHaveNothingToWarnOf) {
  SetWidths(8192, 29568);
  const auto warnings = Check(Stored(OutputFormat::kDequantizedFp16, 3, 128, false), {});
  ASSERT_TRUE(warnings.ok()) << warnings.status();
  EXPECT_THAT(*warnings, IsEmpty());
}

TEST_F(PreflightTest, KeptLinearsAreSeenBeforeAnyWork) {
  SetWidths(8192, 29568 + 64);  // It is no multiple of 128, so down_proj stays F16.
  EXPECT_THAT(Refusal(Stored(kAwq, 4, 128, false), {{Engine::kTgi}, 1}),
              AllOf(HasSubstr("model.layers.0.mlp.down_proj: is not quantized; tgi wants every "
                              "Linear quantized"),
                    HasSubstr("the nearest that tgi loads: group_size 64")));
  EXPECT_TRUE(Check(Stored(kAwq, 4, 128, false), {{Engine::kVllm, Engine::kSglang}, 1}).ok());
}

// SGLang asks for them as qkv_proj and gate_up_proj.
TEST_F(PreflightTest, KeptLinearsThatEnginesFuseAreFoundUnderEitherName) {
  SetWidths(8192, 29568);
  Skip({"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.k_proj",
        "model.layers.1.self_attn.v_proj", "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj"});
  const auto checked = Check(
      Stored(kAwq, 4, 128, false),
      {{Engine::kVllm, Engine::kVllmCpu, Engine::kSglang, Engine::kLmdeploy, Engine::kTransformers},
       1});
  EXPECT_TRUE(checked.ok()) << checked.status();
}

// LMDeploy wants groups of 32 or 128, and has no widths side by side in any layout.
TEST_F(PreflightTest, TheNearestIsOneWithTheOverridesOfTheJob) {
  SetWidths(8192, 29568);
  const StoredFormat stored = Stored(OutputFormat::kCompressedTensors, 4, 64, true);
  EXPECT_THAT(Refusal(stored, {{Engine::kLmdeploy}, 1}),
              HasSubstr("the nearest that lmdeploy loads: group_size 32"));
  overrides_ = {{"model.layers.1.mlp.down_proj", 8, 0, false}};
  EXPECT_THAT(Refusal(stored, {{Engine::kLmdeploy}, 1}),
              AllOf(HasSubstr("model.layers.1.mlp.down_proj: bits is 8"),
                    HasSubstr("no other group_size, symmetry, width or output format loads in "
                              "lmdeploy either")));
  // A skipped Linear has no width; TGI wants that said in compressed-tensors.
  overrides_.clear();
  Skip({"model.layers.1.mlp.down_proj"});
  EXPECT_THAT(Refusal(Stored(kAwq, 4, 128, true), {{Engine::kTgi}, 1}),
              HasSubstr("the nearest that tgi loads: output_format compressed-tensors"));
}

TEST_F(PreflightTest, WhatALimitOfErrorMayMakeOfAResultIsJudgedBeforeAnyWork) {
  SetWidths(8192, 29568);
  limits_error_ = true;
  // In awq-gemm what is above it stays F16.
  EXPECT_THAT(
      Refusal(Stored(kAwq, 4, 128, false), {{Engine::kVllm, Engine::kTgi}, 1}),
      AllOf(HasSubstr(
                "where max_relative_error leads to F16, the result will not load in tgi as of "),
            HasSubstr("model.layers.1.self_attn.q_proj: is not quantized; tgi wants every Linear "
                      "quantized"),
            HasSubstr("the nearest that vllm and tgi load: symmetric true, output_format "
                      "compressed-tensors; without max_relative_error this one loads"),
            Not(HasSubstr("will not load in vllm"))));
  EXPECT_TRUE(Check(Stored(kAwq, 4, 128, false), {{Engine::kVllm, Engine::kSglang}, 1}).ok());
  // In compressed-tensors it gets 8 bits first.
  EXPECT_THAT(
      Refusal(Stored(OutputFormat::kCompressedTensors, 4, 128, true), {{Engine::kLmdeploy}, 1}),
      AllOf(HasSubstr("where max_relative_error leads to 8 bits, the result will not load "
                      "in lmdeploy as of "),
            HasSubstr("model.layers.1.self_attn.q_proj: bits is 8"),
            HasSubstr("the nearest that lmdeploy loads: output_format awq-gemm")));
  // Nobody asked for those.
  const auto warnings = Check(Stored(kAwq, 4, 128, false), {});
  ASSERT_TRUE(warnings.ok()) << warnings.status();
  EXPECT_THAT(*warnings,
              ElementsAre(HasSubstr("not in llama-cpp; where max_relative_error leads to "
                                    "F16, not in tgi (inspect says why)")));
  limits_error_ = false;
  EXPECT_TRUE(Check(Stored(kAwq, 4, 128, false), {{Engine::kVllm, Engine::kTgi}, 1}).ok());
}

TEST_F(PreflightTest, NothingIsRaisedOfWhatIsNotRounded) {
  SetWidths(8192, 29568);
  limits_error_ = true;
  for (const OutputFormat plain : {OutputFormat::kScaledFp16, OutputFormat::kDequantizedFp16}) {
    const auto warnings = Check(Stored(plain, 4, 128, false), {{Engine::kTgi}, 1});
    ASSERT_TRUE(warnings.ok()) << warnings.status();
    EXPECT_THAT(*warnings, IsEmpty());
  }
}

}  // namespace
}  // namespace salient
