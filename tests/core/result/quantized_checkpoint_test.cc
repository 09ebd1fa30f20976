#include "core/result/quantized_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/config/json.h"
#include "core/config/model/model_config.h"
#include "core/config/quantization_config.h"
#include "core/model/activations.h"
#include "core/model/families/family.h"
#include "core/model/group_observer.h"
#include "core/parallel/executor.h"
#include "core/result/quantization_config.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/small_model.h"
#include "tests/core/result/written_model.h"
#include "tests/support/planned_model.h"
#include "tests/support/random_model.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using testing::BiasedConfig;
using testing::CheckWritten;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::k4Bit32;
using testing::MakeDirectory;
using testing::MakePath;
using testing::Must;
using testing::NamesWith;
using testing::Quantize;
using testing::ReadFile;
using testing::SmallModel;
using ::testing::StartsWith;
using testing::TestsDirectory;
using testing::WrittenModel;

TEST(QuantizedCheckpointTest, TheTestModelBecomesTheFileThatItsTensorsSerializeTo) {
  const fs::path out = MakeDirectory("out");
  const WrittenModel result = Quantize(TestsDirectory() + "data/pocket-llama", out, {});
  CheckWritten(out, result);
  ASSERT_EQ(result.plan.files.size(), 1u);
  EXPECT_EQ(result.plan.files[0].name, "model.safetensors");
  EXPECT_EQ(result.plan.index_json, "");
  EXPECT_THAT(result.plan.kept, IsEmpty());
  const std::vector<std::byte> expected = Must(SerializeSafetensors(ToWrite(result.tensors), {}));
  EXPECT_EQ(ReadFile(out / "model.safetensors"),
            std::string(reinterpret_cast<const char*>(expected.data()), expected.size()));
  // 2048 x 256 tied, 4 blocks, final norm.
  EXPECT_EQ(result.plan.parameters, 2048 * 256 + 256 + 4 * (2 * 256 + 256 * (3 * 256 + 3 * 768)));
  // Plain names, and those of a packed Linear, spelt out.
  EXPECT_EQ(NamesWith(result.tensors, "model.layers.3."),
            (std::set<std::string>{"input_layernorm.weight",   "post_attention_layernorm.weight",
                                   "self_attn.q_proj.qweight", "self_attn.q_proj.qzeros",
                                   "self_attn.q_proj.scales",  "self_attn.k_proj.qweight",
                                   "self_attn.k_proj.qzeros",  "self_attn.k_proj.scales",
                                   "self_attn.v_proj.qweight", "self_attn.v_proj.qzeros",
                                   "self_attn.v_proj.scales",  "self_attn.o_proj.qweight",
                                   "self_attn.o_proj.qzeros",  "self_attn.o_proj.scales",
                                   "mlp.gate_proj.qweight",    "mlp.gate_proj.qzeros",
                                   "mlp.gate_proj.scales",     "mlp.up_proj.qweight",
                                   "mlp.up_proj.qzeros",       "mlp.up_proj.scales",
                                   "mlp.down_proj.qweight",    "mlp.down_proj.qzeros",
                                   "mlp.down_proj.scales"}));
  for (const NamedTensor& tensor : result.tensors) {
    if (tensor.name == "model.layers.0.self_attn.k_proj.qweight") {
      EXPECT_EQ(tensor.dtype, DType::kI32);
      EXPECT_THAT(tensor.shape, ElementsAre(256, 16));
    }
    if (tensor.name == "model.layers.0.self_attn.k_proj.scales") {
      EXPECT_EQ(tensor.dtype, DType::kF16);
      EXPECT_THAT(tensor.shape, ElementsAre(2, 128));
    }
    if (tensor.name == "model.embed_tokens.weight" || tensor.name == "model.norm.weight") {
      const Checkpoint source = Must(Checkpoint::Open(TestsDirectory() + "data/pocket-llama"));
      EXPECT_EQ(tensor.data, Must(source.Read(tensor.name))) << tensor.name;
    }
  }
  EXPECT_THAT(NamesWith(result.tensors, "lm_head"), IsEmpty());
}

TEST(QuantizedCheckpointTest, OneFileOrManyGiveTheSameBytes) {
  const fs::path one = MakeDirectory("one");
  const fs::path many = MakeDirectory("many");
  testing::WriteRandomModel(one, BiasedConfig(192), DType::kBF16, 13);
  testing::WriteRandomModel(many, BiasedConfig(192), DType::kBF16, 13, 40'000);
  ASSERT_TRUE(fs::exists(one / kSingleFileName));
  ASSERT_TRUE(fs::exists(many / kShardIndexName));
  Quantize(one, MakeDirectory("out_of_one"), {k4Bit32});
  Quantize(many, MakeDirectory("out_of_many"), {k4Bit32});
  const std::string bytes = ReadFile(MakePath("out_of_one") / kSingleFileName);
  EXPECT_GT(bytes.size(), 50'000u);
  EXPECT_EQ(bytes, ReadFile(MakePath("out_of_many") / kSingleFileName));
}

// Every format keeps what it does not quantize in the dtype that it came in, in which a residual
// stream beyond F16 has room: norms and biases with the fold in them, what was kept, what stands
// outside the blocks.
TEST(QuantizedCheckpointTest, AModelInBF16StaysInBF16) {
  const fs::path source = MakeDirectory("source");
  testing::WriteRandomModel(source, BiasedConfig(172), DType::kBF16, 13);
  for (const OutputFormat output :
       {OutputFormat::kAwqGemm, OutputFormat::kGptq, OutputFormat::kGptqV2,
        OutputFormat::kCompressedTensors, OutputFormat::kIntQuantized, OutputFormat::kScaledFp16,
        OutputFormat::kDequantizedFp16}) {
    SCOPED_TRACE(Name(output));
    StoredFormat stored{{4, 32, true, DType::kF16}, output};
    if (output == OutputFormat::kIntQuantized) {
      stored = {{8, kWholeRow, true, DType::kF32}, output, ActivationFormat::kDynamicToken};
    }
    const fs::path out = MakeDirectory("out");
    const WrittenModel result = Quantize(source, out, {stored});
    CheckWritten(out, result);
    const Checkpoint before = Must(Checkpoint::Open(source.string()));
    std::set<std::string> same;
    for (const NamedTensor& tensor : result.tensors) {
      const auto found = before.Find(tensor.name);
      const bool plain_fp16 =
          output == OutputFormat::kScaledFp16 || output == OutputFormat::kDequantizedFp16;
      if (!found.ok() || tensor.dtype == DType::kI8) continue;
      // 32 does not divide 172.
      const bool made = plain_fp16 && absl::EndsWith(tensor.name, "_proj.weight") &&
                        !absl::StrContains(tensor.name, "down_proj");
      EXPECT_EQ(tensor.dtype, made ? DType::kF16 : DType::kBF16) << tensor.name;
      if (tensor.data == Must(before.Read(tensor.name))) same.insert(tensor.name);
    }
    for (const char* name : {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
                             "model.layers.1.self_attn.q_proj.bias"}) {
      EXPECT_TRUE(same.contains(name)) << name;
    }
    if (output == OutputFormat::kAwqGemm) {
      EXPECT_TRUE(same.contains("model.layers.0.mlp.down_proj.weight")) << "172 fits no words";
    }
    const ModelConfig config = Must(ParseModelConfig("config.json", ReadFile(out / "config.json")));
    EXPECT_EQ(config.dtype, DType::kBF16);
  }
}

// |logits of after - logits of before| / |logits of before|.
double LogitsError(const fs::path& before_path, const fs::path& after_path) {
  SerialExecutor executor;
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < 50; ++i) tokens.push_back(i * 31 % 96);
  const SmallModel before(before_path.string());
  const SmallModel after(after_path.string());
  const Matrix a = before.Logits(tokens, ComputeDType::kF32, IgnoreGroup, executor);
  const Matrix b = after.Logits(tokens, ComputeDType::kF32, IgnoreGroup, executor);
  double difference = 0;
  double energy = 0;
  for (int64_t i = 0; i < a.rows() * a.cols(); ++i) {
    difference += std::pow(static_cast<double>(a.data()[i]) - b.data()[i], 2);
    energy += std::pow(a.data()[i], 2);
  }
  return std::sqrt(difference / energy);
}

// At 8 bits nothing but a scale that is folded wrongly, or not everywhere, can move the logits by
// more than a little: into norms, into v_proj under grouped queries, into up_proj, and biases.
TEST(QuantizedCheckpointTest, AtEightBitsTheResultComputesWhatTheSourceDoes) {
  const fs::path source = MakeDirectory("source");
  const fs::path out = MakeDirectory("out");
  testing::WriteRandomModel(source, BiasedConfig(192), DType::kF32, 12);
  const WrittenModel result =
      Quantize(source, out, {{{8, 32, false, DType::kF16}, OutputFormat::kDequantizedFp16}},
               /*always_scale=*/true);
  EXPECT_GE(result.scaled, 6) << "of 8 groups";
  EXPECT_LT(LogitsError(source, out), 0.02);
}

// Scaled and not quantized: only the rounding to F16 is left, the same as without a scale.
TEST(QuantizedCheckpointTest, TheScaledModelComputesWhatTheSourceDoes) {
  const fs::path source = MakeDirectory("source");
  const fs::path out = MakeDirectory("out");
  testing::WriteRandomModel(source, BiasedConfig(192), DType::kF32, 12);
  const WrittenModel result =
      Quantize(source, out, {{{3, 32, false, DType::kF16}, OutputFormat::kScaledFp16}},
               /*always_scale=*/true);
  EXPECT_GE(result.scaled, 6) << "of 8 groups";
  const double error = LogitsError(source, out);
  EXPECT_LT(error, 1e-3);
  EXPECT_GT(error, 0) << "the source is F32";
}

QuantizedCheckpointPlan PlanFor(const std::string& config_json,
                                const QuantizedCheckpointParams& params) {
  return Must(PlanQuantizedCheckpoint(
      testing::Planned(Must(ParseModelConfig("dir/config.json", config_json))), config_json,
      params));
}

TEST(QuantizedConfigTest, KeepsMembersTheirOrderAndTheirNumbers) {
  const std::string config =
      "{\"zeta\": [1, 2.0, {\"b\": null, \"a\": []}], \"architectures\": [\"LlamaForCausalLM\"],"
      "\"model_type\": \"llama\","
      "\"hidden_size\": 64, \"intermediate_size\": 64, \"num_hidden_layers\": 1,"
      "\"torch_dtype\": \"bfloat16\", \"num_attention_heads\": 4, \"vocab_size\": 96,"
      "\"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"big\": 18446744073709551615,"
      "\"note\": \"\\u00e9\\n\"}";
  EXPECT_EQ(
      PlanFor(config, {k4Bit32}).config_json,
      "{\n"
      "  \"zeta\": [\n    1,\n    2.0,\n    {\n      \"b\": null,\n      \"a\": []\n    }\n  ],\n"
      "  \"architectures\": [\n    \"LlamaForCausalLM\"\n  ],\n"
      "  \"model_type\": \"llama\",\n"
      "  \"hidden_size\": 64,\n  \"intermediate_size\": 64,\n  \"num_hidden_layers\": 1,\n"
      "  \"torch_dtype\": \"bfloat16\",\n  \"num_attention_heads\": 4,\n"
      "  \"vocab_size\": 96,\n  \"rms_norm_eps\": 1e-05,\n  \"rope_theta\": 10000.0,\n"
      "  \"big\": 18446744073709551615,\n  \"note\": \"\xC3\xA9\\n\",\n"
      "  \"quantization_config\": {\n    \"quant_method\": \"awq\",\n    \"bits\": 4,\n"
      "    \"group_size\": 32,\n    \"zero_point\": true,\n    \"version\": \"gemm\"\n  }\n"
      "}\n");
}

// The model's head is its own though its config ties it.
TEST(QuantizedConfigTest, AHeadOfItsOwnIsKeptAndNotCalledTied) {
  const std::string text =
      "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 64, "
      "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"vocab_size\": 96, "
      "\"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true}";
  ModelConfig config = Must(ParseModelConfig("dir/config.json", text));
  for (const bool own : {false, true}) {
    config.own_head = own;
    const auto plan = Must(PlanQuantizedCheckpoint(Must(PlanModel(config)), text, {k4Bit32}));
    const JsonValue json = Must(ParseJson("out", plan.config_json));
    EXPECT_EQ(*json.Find("tie_word_embeddings")->AsBool(), !own);
    EXPECT_EQ(*json.Find("model_type")->AsString(), "llama");
    bool has_head = false;
    for (const SafetensorsLayout::Place& place : plan.files[0].layout.places) {
      has_head = has_head || place.tensor.name == "lm_head.weight";
    }
    EXPECT_EQ(has_head, own);
  }
}

// Readers look at either name: both say the same, and one stands there if none did.
TEST(QuantizedConfigTest, EveryNameOfTheDTypeSaysWhatTheModelIs) {
  const std::string rest =
      "\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 64, "
      "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"vocab_size\": 96, "
      "\"rms_norm_eps\": 1e-5}";
  for (const auto& [before, by_config] :
       {std::pair{std::string("{"), "float16"},
        {"{\"torch_dtype\": \"float32\", ", "float16"},
        {"{\"dtype\": null, ", "float16"},
        {"{\"dtype\": \"bfloat16\", \"torch_dtype\": \"bfloat16\", ", "bfloat16"}}) {
    for (const OutputFormat output : {OutputFormat::kAwqGemm, OutputFormat::kDequantizedFp16}) {
      for (const auto& [dtypes, expected] :
           {std::pair{std::optional<PlainDTypes>(), by_config},
            {std::optional<PlainDTypes>({DType::kF16, DType::kF16}), "float16"},
            {std::optional<PlainDTypes>({DType::kBF16, DType::kF16}), "bfloat16"}}) {
        QuantizedCheckpointParams params{{k4Bit32, output}};
        params.dtypes = dtypes;
        const JsonValue json = Must(ParseJson("out", PlanFor(before + rest, params).config_json));
        EXPECT_EQ(*json.Find("torch_dtype")->AsString(), expected) << before;
        const JsonValue* dtype = json.Find("dtype");
        EXPECT_EQ(dtype != nullptr, absl::StrContains(before, "\"dtype\""));
        EXPECT_TRUE(dtype == nullptr || *dtype->AsString() == expected) << before;
      }
    }
  }
}

TEST(QuantizedCheckpointErrorsTest, PlansOfWhatCannotBeDoneNameTheField) {
  const auto error = [](const ModelConfig& config, const QuantizedCheckpointParams& params) {
    const Model model = Must(PlanModel(config));
    const absl::Status status = PlanQuantizedCheckpoint(model, BiasedConfig(172), params).status();
    return std::string(status.message());
  };
  const ModelConfig config = Must(ParseModelConfig("dir/config.json", BiasedConfig(172)));
  QuantizedCheckpointParams params{k4Bit32};
  params.strict = true;
  EXPECT_THAT(error(config, params), HasSubstr("dir/config.json: mlp.gate_proj: out_features is"));
  EXPECT_THAT(error(config, {{4, 128, false, DType::kF16}}),
              HasSubstr("dir/config.json: nothing to quantize; self_attn.q_proj: group_size is"));
  EXPECT_THAT(error(config, {{3, 32, false, DType::kF16}}), HasSubstr("bits is 3; expected 4"));
  EXPECT_THAT(error(config, {{k4Bit32, OutputFormat::kAwqGemm}, false, 0}),
              HasSubstr("max_shard_bytes is 0"));
  ModelConfig refused = config;
  refused.refusals = {{"use_cache", "use_cache is \"yes\"; expected true or false"}};
  EXPECT_EQ(error(refused, {k4Bit32}),
            "dir/config.json: use_cache is \"yes\"; expected true or false");
  ModelConfig quantized = config;
  quantized.quantization = QuantizationConfig{"gptq", 4, 128, true, ""};
  EXPECT_THAT(
      error(quantized, {k4Bit32}),
      StartsWith("dir/config.json: quantization_config.quant_method is \"gptq\"; expected"));
}

// A model's own projections beside its blocks are Linears to engines, and not quantized.
TEST(OuterLinearsTest, EveryFormatSaysThatTheyStayAsTheyAre) {
  const std::string json = Must(ReadTextFile(
      testing::TestsDirectory() + "golden/families/opt_after_norm/config.json", 1 << 16));
  const Model model = Must(PlanModel(Must(ParseModelConfig("config.json", json))));
  ASSERT_THAT(model.OuterLinears(),
              ::testing::ElementsAre("model.decoder.project_in", "model.decoder.project_out"));
  for (const OutputFormat output :
       {OutputFormat::kAwqGemm, OutputFormat::kGptq, OutputFormat::kCompressedTensors}) {
    QuantizedCheckpointParams params;
    params.stored = {{4, 4, true, DType::kF16}, output};
    const QuantizedCheckpointPlan plan = Must(PlanQuantizedCheckpoint(model, json, params));
    for (const std::string& module : model.OuterLinears()) {
      const std::string last = module.substr(module.rfind('.') + 1);
      EXPECT_THAT(plan.config_json, ::testing::HasSubstr(last)) << Name(output);
    }
    // A report tells of what was meant to be quantized alone.
    for (const KeptLinear& kept : plan.kept) {
      EXPECT_THAT(model.OuterLinears(), ::testing::Not(::testing::Contains(kept.module)));
    }
  }
}

}  // namespace
}  // namespace salient
