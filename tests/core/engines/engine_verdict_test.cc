#include "core/engines/engine_verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/config/model/model_config.h"
#include "core/engines/processor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "tests/core/engines/model_descriptions.h"
#include "tests/core/model/llama_places.h"

namespace salient {
namespace {

using ::testing::Contains;
using testing::Describe;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::LargeConfig;
using ::testing::Not;
using testing::Stored;

// The names of those that load, in the order of AllEngines.
std::string Loading(const ModelDescription& model, int64_t tensor_parallel = 1) {
  std::vector<std::string> names;
  for (const EngineVerdict& verdict : JudgeEngines(model, tensor_parallel)) {
    if (verdict.loads()) names.emplace_back(EngineName(verdict.engine));
  }
  return absl::StrJoin(names, " ");
}

std::string Faults(Engine engine, const ModelDescription& model, int64_t tensor_parallel = 1) {
  return absl::StrJoin(JudgeEngine(engine, model, tensor_parallel).faults, "\n");
}

std::string Remarks(Engine engine, const ModelDescription& model, int64_t tensor_parallel = 1) {
  return absl::StrJoin(JudgeEngine(engine, model, tensor_parallel).remarks, "\n");
}

// Has the constraints as their sources have them, cell by cell: which engines load a model of
// Llama-3-8B's shapes in one format. It is independent of how the rules are written down in
// core/engines.
struct Cell {
  OutputFormat output;
  int bits;
  int64_t group_size;
  bool symmetric;
  const char* loads;
};
constexpr bool kSym = true;
constexpr bool kAsym = false;

const Cell kCells[] = {
    // AWQ has 4 bits everywhere; LMDeploy takes 128 alone, TGI 32, 64, 128, transformers 16, too.
    {OutputFormat::kAwqGemm, 4, 128, kAsym, "vllm vllm-cpu sglang tgi lmdeploy transformers"},
    {OutputFormat::kAwqGemm, 4, 64, kAsym, "vllm vllm-cpu sglang tgi transformers"},
    {OutputFormat::kAwqGemm, 4, 32, kAsym, "vllm vllm-cpu sglang tgi transformers"},
    {OutputFormat::kAwqGemm, 4, 16, kAsym, "vllm-cpu sglang transformers"},
    {OutputFormat::kAwqGemm, 4, 256, kAsym, "vllm vllm-cpu sglang"},
    {OutputFormat::kAwqGemm, 4, -1, kAsym, "vllm vllm-cpu sglang transformers"},
    {OutputFormat::kAwqGemm, 8, 128, kAsym, ""},
    // GPTQ has 4 and 8 bits, symmetric, in vLLM and SGLang in Marlin's groups alone; LMDeploy takes
    // 4 bits and 128, transformers 2, 3, 4, 8.
    {OutputFormat::kGptq, 4, 128, kSym, "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp"},
    {OutputFormat::kGptq, 4, 64, kSym, "vllm vllm-cpu sglang tgi transformers llama-cpp"},
    {OutputFormat::kGptq, 8, 128, kSym, "vllm sglang tgi transformers llama-cpp"},
    {OutputFormat::kGptq, 3, 128, kSym, "transformers"},
    {OutputFormat::kGptq, 2, 128, kSym, "tgi transformers llama-cpp"},
    {OutputFormat::kGptq, 4, 16, kSym, "tgi transformers llama-cpp"},
    {OutputFormat::kGptq, 4, 256, kSym, "tgi transformers llama-cpp"},
    {OutputFormat::kGptq, 4, -1, kSym, "vllm vllm-cpu sglang tgi transformers llama-cpp"},
    {OutputFormat::kGptq, 4, 128, kAsym, "tgi transformers llama-cpp"},
    // Version 2's zero points are read by few.
    {OutputFormat::kGptqV2, 4, 128, kSym, "vllm vllm-cpu sglang transformers llama-cpp"},
    {OutputFormat::kGptqV2, 4, 128, kAsym, "transformers llama-cpp"},
    {OutputFormat::kGptqV2, 3, 128, kAsym, "transformers"},
    // Of compressed-tensors TGI and transformers take symmetric alone, LMDeploy 4 bits with 32 or
    // 128, llama.cpp groups.
    {OutputFormat::kCompressedTensors, 4, 128, kSym,
     "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp"},
    {OutputFormat::kCompressedTensors, 4, 128, kAsym, "vllm vllm-cpu sglang lmdeploy llama-cpp"},
    {OutputFormat::kCompressedTensors, 4, 32, kSym,
     "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp"},
    {OutputFormat::kCompressedTensors, 4, 64, kSym,
     "vllm vllm-cpu sglang tgi transformers llama-cpp"},
    {OutputFormat::kCompressedTensors, 4, 16, kSym, "vllm vllm-cpu tgi transformers llama-cpp"},
    // On CPUs vLLM has kernels of 4 bit weights alone.
    {OutputFormat::kCompressedTensors, 8, 128, kSym, "vllm sglang tgi transformers llama-cpp"},
    {OutputFormat::kCompressedTensors, 8, 128, kAsym, "vllm sglang llama-cpp"},
    {OutputFormat::kCompressedTensors, 4, -1, kSym, "vllm vllm-cpu sglang tgi transformers"},
    // W8A8: not LMDeploy, whose own is another; llama.cpp whole rows alone.
    {OutputFormat::kIntQuantized, 8, -1, kSym, "vllm vllm-cpu sglang tgi transformers llama-cpp"},
    {OutputFormat::kIntQuantized, 8, -2, kSym, "vllm vllm-cpu sglang tgi transformers"},
    {OutputFormat::kIntQuantized, 8, -1, kAsym, "transformers llama-cpp"},
    // Plain weights load everywhere.
    {OutputFormat::kScaledFp16, 4, 128, kAsym,
     "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp"},
    {OutputFormat::kDequantizedFp16, 3, 128, kAsym,
     "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp"},
};

TEST(EngineVerdictTest, EveryFormatLoadsWhereItsEnginesSaySo) {
  for (const Cell& cell : kCells) {
    const ModelDescription model =
        Describe(LargeConfig(), Stored(cell.output, cell.bits, cell.group_size, cell.symmetric));
    EXPECT_EQ(Loading(model), cell.loads)
        << "output " << static_cast<int>(cell.output) << ", " << cell.bits << " bit, group "
        << cell.group_size << (cell.symmetric ? ", symmetric" : ", asymmetric");
  }
}

TEST(EngineVerdictTest, AFaultNamesTheLinearTheValueAndWhatTheEngineWants) {
  const ModelDescription whole_rows =
      Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, -1, kAsym));
  EXPECT_EQ(Faults(Engine::kTgi, whole_rows),
            "model.layers.0.self_attn.q_proj: group_size is -1; tgi wants 32, 64 or 128");
  const ModelDescription asymmetric =
      Describe(LargeConfig(), Stored(OutputFormat::kCompressedTensors, 4, 128, kAsym));
  EXPECT_EQ(Faults(Engine::kTgi, asymmetric),
            "model.layers.0.self_attn.q_proj: symmetric is false; tgi looks for the zero points of "
            "asymmetric weights under other names");
  const ModelDescription three_bit =
      Describe(LargeConfig(), Stored(OutputFormat::kGptq, 3, 128, kSym));
  EXPECT_EQ(Faults(Engine::kVllm, three_bit),
            "model.layers.0.self_attn.q_proj: bits is 3; vllm wants 4 or 8");
}

TEST(EngineVerdictTest, WhatIsNotKnownIsARemarkAndLoads) {
  const ModelDescription model =
      Describe(LargeConfig(), Stored(OutputFormat::kCompressedTensors, 4, 16, kSym));
  const EngineVerdict verdict = JudgeEngine(Engine::kVllm, model, 1);
  EXPECT_TRUE(verdict.loads());
  EXPECT_THAT(verdict.remarks, Contains(HasSubstr("is not known")));
}

TEST(EngineVerdictTest, StaticActivationsAreDynamicInTgi) {
  StoredFormat stored = Stored(OutputFormat::kIntQuantized, 8, -1, kSym);
  stored.activations = ActivationFormat::kDynamicToken;
  EXPECT_THAT(JudgeEngine(Engine::kTgi, Describe(LargeConfig(), stored), 1).remarks, IsEmpty());
  stored.activations = ActivationFormat::kStaticTensor;
  EXPECT_THAT(Remarks(Engine::kTgi, Describe(LargeConfig(), stored)),
              HasSubstr("quantizes activations dynamically, whatever the file says"));
}

// SGLang's and llama.cpp's readers have no place for the scales of static activations.
TEST(EngineVerdictTest, StaticActivationsAreNotForEveryEngine) {
  StoredFormat stored = Stored(OutputFormat::kIntQuantized, 8, -1, kSym);
  stored.activations = ActivationFormat::kStaticTensor;
  const ModelDescription model = Describe(LargeConfig(), stored);
  EXPECT_EQ(Loading(model), "vllm vllm-cpu tgi transformers");
  EXPECT_THAT(Faults(Engine::kSglang, model), HasSubstr("activations are static; sglang has room "
                                                        "for one input_scale"));
  EXPECT_THAT(Faults(Engine::kLlamaCpp, model), HasSubstr("no place for input_scale"));
}

TEST(EngineVerdictTest, EightBitWeightsAloneArePackedInVllmAndSglang) {
  StoredFormat stored = Stored(OutputFormat::kIntQuantized, 8, -1, kSym);
  stored.activations = ActivationFormat::kNone;
  EXPECT_EQ(Loading(Describe(LargeConfig(), stored)), "tgi transformers llama-cpp");
}

TEST(EngineVerdictTest, OneScaleATensorIsReportedToFailInSglang) {
  StoredFormat stored = Stored(OutputFormat::kIntQuantized, 8, -2, kSym);
  stored.activations = ActivationFormat::kDynamicToken;
  EXPECT_THAT(Remarks(Engine::kSglang, Describe(LargeConfig(), stored)),
              HasSubstr("one scale a tensor are reported to fail"));
}

TEST(EngineVerdictTest, ActOrderOfGptqIsNotForVllmAndLmdeploy) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kGptq, 4, 128, kSym));
  model.act_order = true;
  EXPECT_EQ(Loading(model), "sglang tgi transformers llama-cpp");
  EXPECT_THAT(Faults(Engine::kVllm, model), HasSubstr("desc_act is true; vllm no longer takes"));
  // In groups of a whole row the order of its columns does not matter.
  ModelDescription rows = Describe(LargeConfig(), Stored(OutputFormat::kGptq, 4, -1, kSym));
  rows.act_order = true;
  EXPECT_EQ(Loading(rows), "vllm vllm-cpu sglang tgi transformers llama-cpp");
}

TEST(EngineVerdictTest, ActOrderOfCompressedTensorsIsForSglangAlone) {
  ModelDescription model =
      Describe(LargeConfig(), Stored(OutputFormat::kCompressedTensors, 4, 128, kSym));
  model.act_order = true;
  EXPECT_EQ(Loading(model), "sglang");
  EXPECT_THAT(Faults(Engine::kTransformers, model), HasSubstr("actorder is \"group\""));
  EXPECT_THAT(Faults(Engine::kLmdeploy, model), HasSubstr("does not look at weight_g_idx"));
}

TEST(EngineVerdictTest, AwqOfAnotherVersionIsNotForLmdeploy) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 128, kAsym));
  model.version = "GEMM";
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang tgi transformers");
  EXPECT_THAT(Faults(Engine::kLmdeploy, model), HasSubstr("version is \"GEMM\""));
}

// Where zero points are not looked at they are right for symmetric weights, which the field says
// these are; the others read them.
TEST(EngineVerdictTest, AwqWithZeroPointFalseLoads) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 128, kSym));
  model.zero_point = false;
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang tgi lmdeploy transformers");
  for (const Engine engine : {Engine::kVllmCpu, Engine::kTgi}) {
    EXPECT_THAT(Remarks(engine, model), HasSubstr("takes all zero points to be 8"));
  }
  EXPECT_THAT(Remarks(Engine::kVllm, model), HasSubstr("AWQ's own kernel"));
  ModelDescription rows = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, -1, kSym));
  rows.zero_point = false;
  EXPECT_THAT(Faults(Engine::kVllm, rows), HasSubstr("with zero_point true"));
}

TEST(EngineVerdictTest, OldNamesOfAwqAreNotForAll) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 128, kAsym));
  model.old_names = true;
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang lmdeploy");
  EXPECT_THAT(Faults(Engine::kTransformers, model),
              HasSubstr("says w_bit and q_group_size; transformers wants bits and group_size"));
}

TEST(EngineVerdictTest, FieldsThatCompressedTensorsDoesNotHaveAreRefused) {
  ModelDescription model =
      Describe(LargeConfig(), Stored(OutputFormat::kCompressedTensors, 4, 128, kSym));
  model.unknown_in_arguments = "config_groups.group_0.weights.percdamp";
  EXPECT_EQ(Loading(model), "tgi lmdeploy llama-cpp");
  EXPECT_THAT(Faults(Engine::kVllm, model),
              HasSubstr("quantization_config.config_groups.group_0.weights.percdamp: "
                        "compressed-tensors has no such "
                        "field, and vllm permits no others"));
  model.unknown_in_arguments.clear();
  model.unknown_in_group = "config_groups.group_0.note";
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang tgi lmdeploy llama-cpp");
}

TEST(EngineVerdictTest, LlamaCppTakesOneGroupOfCompressedTensors) {
  ModelDescription model =
      Describe(LargeConfig(), Stored(OutputFormat::kCompressedTensors, 4, 128, kSym));
  model.config_groups = 2;
  EXPECT_THAT(Faults(Engine::kLlamaCpp, model), HasSubstr("config_groups has 2 groups"));
}

TEST(EngineVerdictTest, Bfloat16IsRefusedWhereAwqsOwnKernelIsTaken) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 256, kAsym));
  model.dtype = DType::kF16;
  EXPECT_EQ(Faults(Engine::kSglang, model), "");
  model.dtype = DType::kBF16;
  EXPECT_THAT(Faults(Engine::kSglang, model), HasSubstr("sglang wants float16 (--dtype float16)"));
  ModelDescription marlin = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 128, kAsym));
  marlin.dtype = DType::kBF16;
  EXPECT_EQ(Loading(marlin), "vllm vllm-cpu sglang tgi lmdeploy transformers");
  for (const Engine engine : {Engine::kTgi, Engine::kLmdeploy}) {
    EXPECT_THAT(Remarks(engine, marlin), HasSubstr("computes in float16 though"));
  }
}

TEST(EngineVerdictTest, VllmOnCpusHasAttentionForSomeHeads) {
  ModelConfig config = LargeConfig();
  for (const auto& [head_dim, loads] :
       {std::pair{128, true}, {16, false}, {48, false}, {96, true}}) {
    config.head_dim = head_dim;
    config.hidden_size = 32 * head_dim;
    const ModelDescription model =
        Describe(config, Stored(OutputFormat::kScaledFp16, 4, 128, kAsym));
    EXPECT_EQ(JudgeEngine(Engine::kVllmCpu, model, 1).loads(), loads) << head_dim;
    EXPECT_EQ(Faults(Engine::kVllm, model), "");
  }
  config.head_dim = 16;
  EXPECT_THAT(
      Faults(Engine::kVllmCpu, Describe(config, Stored(OutputFormat::kScaledFp16, 4, 128, kAsym))),
      HasSubstr("head_dim is 16; vllm-cpu wants one of 32, 64"));
}

TEST(EngineVerdictTest, TheProcessorThatVllmNeedsIsSaid) {
  for (const OutputFormat output :
       {OutputFormat::kAwqGemm, OutputFormat::kGptq, OutputFormat::kCompressedTensors}) {
    EXPECT_THAT(Remarks(Engine::kVllmCpu, Describe(LargeConfig(), Stored(output, 4, 128, kSym))),
                HasSubstr("need an x86 CPU with AVX-512"));
  }
  EXPECT_THAT(Remarks(Engine::kVllmCpu,
                      Describe(LargeConfig(), Stored(OutputFormat::kIntQuantized, 8, -1, kSym))),
              HasSubstr("without AVX-512 it was seen to err"));
  EXPECT_EQ(Remarks(Engine::kVllmCpu,
                    Describe(LargeConfig(), Stored(OutputFormat::kScaledFp16, 4, 128, kSym))),
            "");
  EXPECT_THAT(FourBitProcessorRemark(false), HasSubstr("the CPU that says this has no AVX-512"));
  EXPECT_THAT(FourBitProcessorRemark(true), Not(HasSubstr("the CPU that says this")));
}

TEST(EngineVerdictTest, EveryEngineHasAVersion) {
  for (const Engine engine : AllEngines()) EXPECT_FALSE(EngineVersion(engine).empty());
}

TEST(EngineVerdictTest, PackedTensorsWithoutAConfigLoadNowhere) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kGptq, 4, 128, kSym));
  model.quant_method.clear();
  EXPECT_EQ(Loading(model), "");
  EXPECT_THAT(Faults(Engine::kVllm, model), HasSubstr("quantization_config"));
}

TEST(EngineVerdictTest, WhatTheConfigClassesRefuseLoadsInNoEngineThatUsesThem) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kGptq, 4, 128, kSym));
  ASSERT_THAT(Loading(model), HasSubstr("llama-cpp"));
  model.config_refusals = {"config.json: use_cache is null; expected true or false", "other"};
  EXPECT_EQ(Loading(model), "llama-cpp");
  EXPECT_THAT(Faults(Engine::kTransformers, model), HasSubstr("config.json: use_cache is null"));
}

TEST(EngineVerdictTest, WhatTheModelOfTransformersRefusesLoadsInTheOthers) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kGptq, 4, 128, kSym));
  ASSERT_THAT(Loading(model), HasSubstr("transformers"));
  model.model_refusals = {"config.json: pad_token_id is 9; expected null or less than 9"};
  EXPECT_THAT(Loading(model), ::testing::AllOf(HasSubstr("vllm"), Not(HasSubstr("transformers"))));
  EXPECT_THAT(Faults(Engine::kTransformers, model), HasSubstr("pad_token_id is 9"));
}

TEST(EngineVerdictTest, AHeadThatDiffersFromTheEmbeddingsIsToldWhereItIsNotKnownToBeKept) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kGptq, 4, 128, kSym));
  for (const bool own : {false, true}) {
    model.own_head = own;
    for (const Engine engine : AllEngines()) {
      const EngineVerdict verdict = JudgeEngine(engine, model, 1);
      const bool tells = own && engine != Engine::kVllm && engine != Engine::kVllmCpu &&
                         engine != Engine::kTransformers;
      EXPECT_EQ(absl::StrJoin(verdict.remarks, "").find("differs from the embeddings") !=
                    std::string::npos,
                tells)
          << EngineName(engine);
    }
  }
}

// Hidden 192 of 3 heads: o_proj is [192, 192], down_proj [192, 320], what is fused wider.
TEST(EngineVerdictTest, ShapesThatNoKernelOfTgiTakesAreAFault) {
  ModelConfig config = LargeConfig();
  config.hidden_size = 192;
  config.intermediate_size = 320;
  config.num_attention_heads = 3;
  config.num_key_value_heads = 3;
  config.head_dim = 64;
  const ModelDescription model = Describe(config, Stored(OutputFormat::kAwqGemm, 4, 32, kAsym));
  EXPECT_EQ(
      Faults(Engine::kTgi, model),
      "model.layers.0.self_attn.q_proj with k_proj and v_proj: is [576, 192] on a device; tgi "
      "wants out_features a multiple of 64 and in_features of 128, or of 128 and 64");
  EXPECT_EQ(Faults(Engine::kVllm, model), "");
  EXPECT_THAT(Remarks(Engine::kVllm, model), HasSubstr("pads that to multiples of 64 and 128"));
  // SGLang has another kernel of AWQ for it, which takes no groups of whole rows.
  EXPECT_EQ(Faults(Engine::kSglang, model), "");
  EXPECT_THAT(
      Faults(Engine::kSglang, Describe(config, Stored(OutputFormat::kAwqGemm, 4, -1, kAsym))),
      HasSubstr("wants multiples of 64 and 128 with groups of whole rows"));
  // And of gptq and compressed-tensors it has none.
  for (const OutputFormat output : {OutputFormat::kGptq, OutputFormat::kCompressedTensors}) {
    EXPECT_THAT(Faults(Engine::kSglang, Describe(config, Stored(output, 4, 32, kSym))),
                HasSubstr("is [576, 192] on a device; sglang wants out_features a multiple of 64 "
                          "and in_features of 128, or of 128 and 64"));
  }
}

TEST(EngineVerdictTest, OnCpusVllmWantsMultiplesOf32) {
  ModelConfig config = LargeConfig();
  config.intermediate_size = 176;
  const ModelDescription model = Describe(config, Stored(OutputFormat::kAwqGemm, 4, 16, kAsym));
  EXPECT_THAT(Faults(Engine::kVllmCpu, model),
              HasSubstr("model.layers.0.mlp.down_proj: is [4096, 176] on a device; vllm-cpu wants "
                        "multiples of 32"));
}

LinearDescription& LinearOf(ModelDescription& model, int64_t layer, size_t role) {
  return model
      .linears[static_cast<size_t>(layer) * testing::llama::kLinears + static_cast<size_t>(role)];
}

TEST(EngineVerdictTest, FusedSiblingsAreAllOrNone) {
  ModelDescription model =
      Describe(LargeConfig(), Stored(OutputFormat::kCompressedTensors, 4, 128, kSym));
  LinearDescription& value = LinearOf(model, 1, testing::llama::kValue);
  value.quantized = false;
  value.said_plain = true;
  // TurboMind decodes what it cannot fuse; the last two do not fuse.
  EXPECT_EQ(Loading(model), "lmdeploy transformers llama-cpp");
  EXPECT_THAT(Faults(Engine::kVllm, model),
              HasSubstr("model.layers.1.self_attn.v_proj: is not quantized, "
                        "model.layers.1.self_attn.q_proj is quantized"));
  ModelDescription widths =
      Describe(LargeConfig(), Stored(OutputFormat::kCompressedTensors, 4, 128, kSym));
  LinearOf(widths, 0, testing::llama::kUp).format.bits = 8;
  EXPECT_THAT(Faults(Engine::kSglang, widths),
              HasSubstr("mlp.up_proj: bits is 8, of model.layers.0.mlp.gate_proj 4"));
}

TEST(EngineVerdictTest, MixedWidthsLoadWhereConfigsCanSaySo) {
  for (const auto& [output, loads] :
       {std::pair{OutputFormat::kCompressedTensors, "vllm sglang tgi transformers"},
        std::pair{OutputFormat::kGptq, "vllm sglang"},
        std::pair{OutputFormat::kGptqV2, "vllm sglang"}}) {
    ModelDescription model = Describe(LargeConfig(), Stored(output, 4, 128, kSym));
    LinearOf(model, 1, testing::llama::kDown).format.bits = 8;
    EXPECT_EQ(Loading(model), loads);
    // The fault is not of the first Linear, but of one of them.
    EXPECT_THAT(Faults(Engine::kVllmCpu, model),
                HasSubstr("model.layers.1.mlp.down_proj: bits is 8; vllm-cpu wants 4"));
  }
  ModelDescription awq = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 128, kAsym));
  LinearOf(awq, 1, testing::llama::kDown).format.group_size = 64;
  EXPECT_EQ(Loading(awq), "");
}

TEST(EngineVerdictTest, MixedGroupSizesOfGptqLoadInLlamaCppToo) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kGptq, 4, 128, kSym));
  LinearOf(model, 1, testing::llama::kDown).format.group_size = 64;
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang llama-cpp");
  EXPECT_THAT(Faults(Engine::kTransformers, model),
              HasSubstr("model.layers.1.mlp.down_proj: group_size is 64, of "
                        "model.layers.0.self_attn.q_proj 128; transformers reads one format for "
                        "all Linears of this layout"));
}

// transformers keeps what modules_in_block_to_quantize leaves out, in every block; what dynamic
// says it does not see.
TEST(EngineVerdictTest, KeptLinearsOfGptqAreNamedByBlockForTransformers) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kGptq, 4, 128, kSym));
  for (const int64_t layer : {0, 1}) {
    LinearDescription& down = LinearOf(model, layer, testing::llama::kDown);
    down.quantized = false;
    down.said_plain = true;
  }
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang lmdeploy llama-cpp");
  EXPECT_THAT(
      Faults(Engine::kTransformers, model),
      HasSubstr("model.layers.0.mlp.down_proj: is not quantized; transformers does not look "
                "at dynamic and wants it left out of modules_in_block_to_quantize"));
  for (LinearDescription& linear : model.linears) {
    linear.in_block_list = !absl::EndsWith(linear.module, "down_proj");
  }
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang lmdeploy transformers llama-cpp");
  // It is quantized in one block.
  LinearOf(model, 1, testing::llama::kDown).quantized = true;
  EXPECT_THAT(Faults(Engine::kTransformers, model),
              HasSubstr("model.layers.1.mlp.down_proj: is quantized; transformers does not look at "
                        "dynamic and wants it in modules_in_block_to_quantize"));
}

TEST(EngineVerdictTest, KeptLinearsNeedTheirPlaceInTheConfig) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 128, kAsym));
  LinearOf(model, 1, testing::llama::kDown).quantized = false;
  model.skipped = {"model.layers.1.mlp.down_proj"};
  // TGI's Marlin loader does not look at the list.
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang lmdeploy transformers");
  model.skipped = {"model.layers.0.mlp.down_proj"};
  EXPECT_EQ(Loading(model), "lmdeploy");
  model.skipped = {"down_proj"};  // It lies inside of the path.
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang lmdeploy transformers");
}

TEST(EngineVerdictTest, SglangAsksByTheNameOfWhatItFuses) {
  ModelDescription model = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 128, kAsym));
  for (const size_t role : {testing::llama::kGate, testing::llama::kUp}) {
    LinearOf(model, 0, role).quantized = false;
    model.skipped.push_back(LinearOf(model, 0, role).module);
  }
  EXPECT_THAT(Faults(Engine::kSglang, model),
              HasSubstr("sglang wants model.layers.0.mlp.gate_up_proj in modules_to_not_convert"));
  EXPECT_EQ(Faults(Engine::kVllm, model), "");
  model.skipped.push_back("model.layers.0.mlp.gate_up_proj");
  EXPECT_EQ(Faults(Engine::kSglang, model), "");
}

TEST(EngineVerdictTest, KeptLinearsOfCompressedTensorsStandInIgnore) {
  ModelDescription model =
      Describe(LargeConfig(), Stored(OutputFormat::kCompressedTensors, 4, 128, kSym));
  LinearOf(model, 0, testing::llama::kOutput).quantized = false;
  EXPECT_THAT(Faults(Engine::kVllm, model), HasSubstr("o_proj: is not quantized; vllm wants that "
                                                      "said in ignore"));
  LinearOf(model, 0, testing::llama::kOutput).said_plain = true;
  EXPECT_EQ(Loading(model), "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp");
}

TEST(EngineVerdictTest, AnArchitectureThatAnEngineLacksIsAFaultOrARemark) {
  const auto described = [](const char* architecture, OutputFormat output) {
    ModelConfig config = LargeConfig();
    config.architecture = architecture;
    return Describe(config, Stored(output, 4, 128, kAsym));
  };
  const ModelDescription opt = described("OPTForCausalLM", OutputFormat::kAwqGemm);
  EXPECT_EQ(Loading(opt), "vllm vllm-cpu sglang transformers");
  EXPECT_THAT(Faults(Engine::kLmdeploy, opt), HasSubstr("lmdeploy 0.18 has no OPTForCausalLM"));
  EXPECT_THAT(Faults(Engine::kTgi, opt), HasSubstr("runs it through transformers, not quantized"));
  const ModelDescription plain = described("OPTForCausalLM", OutputFormat::kDequantizedFp16);
  EXPECT_EQ(Faults(Engine::kTgi, plain), "");
  EXPECT_THAT(Remarks(Engine::kTgi, plain), HasSubstr("runs OPTForCausalLM through transformers"));
  const ModelDescription olmo = described("Olmo3ForCausalLM", OutputFormat::kAwqGemm);
  EXPECT_THAT(Remarks(Engine::kVllm, olmo), HasSubstr("through transformers' class"));
  const ModelDescription gemma = described("Gemma2ForCausalLM", OutputFormat::kAwqGemm);
  EXPECT_EQ(Faults(Engine::kLmdeploy, gemma), "");
  EXPECT_THAT(Remarks(Engine::kLmdeploy, gemma), HasSubstr("its PyTorch engine"));
}

// Qwen-72B has 29568 = 231 * 128.
ModelConfig Qwen72B() {
  ModelConfig config = LargeConfig();
  config.architecture = "Qwen2ForCausalLM";
  config.hidden_size = 8192;
  config.intermediate_size = 29568;
  config.num_attention_heads = 64;
  return config;
}

TEST(EngineVerdictTest, InputsOfADeviceAreAMultipleOfTheGroupSize) {
  const auto awq = [](int64_t group_size) {
    return Describe(Qwen72B(), Stored(OutputFormat::kAwqGemm, 4, group_size, kAsym));
  };
  EXPECT_EQ(Faults(Engine::kVllm, awq(128), 1), "");
  EXPECT_EQ(
      Faults(Engine::kVllm, awq(128), 2),
      "model.layers.0.mlp.down_proj: in_features is 29568, which 2 devices share; vllm wants a "
      "multiple of group_size, 128 on each");
  EXPECT_EQ(Faults(Engine::kVllm, awq(64), 2), "");
  EXPECT_EQ(
      Faults(Engine::kVllm, awq(64), 4),
      "model.layers.0.mlp.down_proj: in_features is 29568, which 4 devices share; vllm wants a "
      "multiple of group_size, 64 on each");
  EXPECT_EQ(Faults(Engine::kVllm, awq(32), 4), "");
  // The two engines do not split Linears.
  EXPECT_EQ(Loading(awq(128), 2), "transformers");
  EXPECT_THAT(Remarks(Engine::kTransformers, awq(128), 2), HasSubstr("does not split"));
}

TEST(EngineVerdictTest, OutputsOfADeviceAreWholeWords) {
  ModelConfig config = LargeConfig();
  config.intermediate_size = 29568;  // It is 8 * 3696 = 16 * 1848; on 16 devices 1848 = 231 * 8.
  const auto plain = Describe(config, Stored(OutputFormat::kAwqGemm, 4, 64, kAsym));
  EXPECT_THAT(Faults(Engine::kVllm, plain, 16), HasSubstr("down_proj"));
  config.intermediate_size = 64 * 33;  // On 16 devices it is 132 = 16.5 * 8.
  const auto odd = Describe(config, Stored(OutputFormat::kAwqGemm, 4, 32, kAsym));
  EXPECT_THAT(Faults(Engine::kVllm, odd, 16),
              HasSubstr("model.layers.0.mlp.gate_proj: out_features is 2112, which 16 devices "
                        "share; vllm wants a multiple of 8 on each"));
}

TEST(EngineVerdictTest, HeadsAreSplitEvenly) {
  const auto model = Describe(LargeConfig(), Stored(OutputFormat::kAwqGemm, 4, 128, kAsym));
  EXPECT_THAT(Faults(Engine::kVllm, model, 3),
              HasSubstr("num_attention_heads is 32; vllm wants a multiple of 3 devices"));
  // 8 kv heads on 16 devices: vLLM and SGLang copy them, TGI does not.
  EXPECT_EQ(Faults(Engine::kVllm, model, 16), "");
  EXPECT_EQ(Faults(Engine::kSglang, model, 16), "");
  EXPECT_THAT(Faults(Engine::kTgi, model, 16), HasSubstr("num_key_value_heads is 8"));
}

TEST(EngineVerdictTest, PlainModelsAreSplitToo) {
  const auto model = Describe(LargeConfig(), Stored(OutputFormat::kScaledFp16, 4, 128, kAsym));
  EXPECT_EQ(Loading(model, 3), "transformers llama-cpp");
  EXPECT_EQ(Loading(model, 4), "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp");
}

TEST(EngineVerdictTest, EnginesStandInTheOrderOfTheirNames) {
  std::vector<std::string> names;
  for (const Engine engine : AllEngines()) names.emplace_back(EngineName(engine));
  EXPECT_THAT(names, ElementsAre("vllm", "vllm-cpu", "sglang", "tgi", "lmdeploy", "transformers",
                                 "llama-cpp"));
}

}  // namespace
}  // namespace salient
