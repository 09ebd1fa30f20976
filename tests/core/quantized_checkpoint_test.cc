#include "core/quantized_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/checkpoint_writer.h"
#include "core/checkpoint/json.h"
#include "core/linalg/gemm.h"
#include "core/quantization_config.h"
#include "core/quantize_model.h"
#include "core/tensor/half.h"
#include "tests/core/model/small_model.h"
#include "tests/support/altered_source.h"
#include "tests/support/random_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Must;
using testing::SmallModel;
using ::testing::StartsWith;
using testing::TestsDirectory;

// hidden 64, q 4 x 16, k and v 2 x 16; the head is not tied, and everything has a bias.
std::string BiasedConfig(int64_t inner) {
  return "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, "
         "\"intermediate_size\": " +
         std::to_string(inner) +
         ", \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
         "\"vocab_size\": 96, \"rms_norm_eps\": 1e-5, \"attention_bias\": true, "
         "\"mlp_bias\": true, \"dtype\": \"bfloat16\"}";
}

std::string ReadFile(const fs::path& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

fs::path MakePath(const std::string& name) {
  std::string test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(test.begin(), test.end(), '/', '.');
  return fs::path(::testing::TempDir()) / (test + "." + name);
}

fs::path MakeDirectory(const std::string& name) {
  const fs::path path = MakePath(name);
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

// Writes what a run emits, and keeps it to compare with.
class WritingSink final : public QuantizedModelSink {
 public:
  explicit WritingSink(CheckpointWriter& writer) : writer_(writer) {}

  absl::Status TensorsDone(int64_t /*block*/, size_t /*output*/,
                           std::vector<NamedTensor> block) override {
    for (NamedTensor& tensor : block) {
      absl::Status status = writer_.WriteTensor(tensor.name, 0, tensor.data);
      if (!status.ok()) return status;
      tensors.push_back(std::move(tensor));
    }
    return absl::OkStatus();
  }
  absl::Status GroupDone(size_t /*output*/, const GroupReport& report) override {
    scaled += report.candidate.identity ? 0 : 1;
    return absl::OkStatus();
  }
  absl::Status Kept(size_t /*output*/, const std::string& module, const std::string& why) override {
    kept[module] = why;
    return absl::OkStatus();
  }
  absl::Status TokensDone(int64_t /*block*/, int64_t /*tokens*/) override {
    return absl::OkStatus();
  }

  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> kept;
  int scaled = 0;  // groups

 private:
  CheckpointWriter& writer_;
};

struct Result {
  QuantizedCheckpointPlan plan;
  std::vector<NamedTensor> tensors;  // as emitted, blocks and outer ones
  std::map<std::string, std::string> kept;
  int scaled = 0;
};

// Quantizes the model in `source` into the directory `out`, as the plan says.
Result Quantize(const fs::path& source, const fs::path& out,
                const QuantizedCheckpointParams& params, bool always_scale = false) {
  LimitThreadToItself();
  testing::ThreadExecutor executor(2);
  const SmallModel model(source.string());
  Result result;
  result.plan =
      Must(PlanQuantizedCheckpoint(model.config, ReadFile(source / "config.json"), params));
  CheckpointWriter writer = Must(CheckpointWriter::Create(out.string()));
  for (const QuantizedFile& file : result.plan.files) {
    EXPECT_TRUE(writer.AddSafetensors(file.name, file.layout).ok());
  }
  if (!result.plan.index_json.empty()) {
    EXPECT_TRUE(writer.WriteFile(kShardIndexName, result.plan.index_json).ok());
  }
  EXPECT_TRUE(writer.WriteFile(kConfigName, result.plan.config_json).ok());
  if (!result.plan.quantize_config_json.empty()) {
    EXPECT_TRUE(writer.WriteFile(kQuantizeConfigName, result.plan.quantize_config_json).ok());
  }

  QuantizeModelParams run;
  run.method = {ScaleChoice::kAwq, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};
  run.method.autoawq = always_scale;  // knows no identity
  run.outputs = {params.stored};
  run.work_directory = MakeDirectory("work").string();
  std::vector<std::vector<int64_t>> calibration(2);
  for (int64_t i = 0; i < 80; ++i) calibration[i % 2].push_back(i * 37 % model.config.vocab_size);
  WritingSink sink(writer);
  absl::Status status =
      QuantizeModel(model.checkpoint, model.config, calibration, run, sink, executor);
  EXPECT_TRUE(status.ok()) << status;
  result.tensors = std::move(sink.tensors);
  result.kept = std::move(sink.kept);
  result.scaled = sink.scaled;
  status = CopyOuterTensors(
      model.checkpoint, model.config,
      [&](const TensorShape& tensor, int64_t offset, absl::Span<const std::byte> bytes) {
        EXPECT_LE(bytes.size(), size_t{4} << 20);
        if (offset == 0) {
          result.tensors.push_back({tensor.name, tensor.dtype, tensor.shape, {}});
        }
        std::vector<std::byte>& data = result.tensors.back().data;
        EXPECT_EQ(static_cast<int64_t>(data.size()), offset);
        data.insert(data.end(), bytes.begin(), bytes.end());
        return writer.WriteTensor(tensor.name, offset, bytes);
      });
  EXPECT_TRUE(status.ok()) << status;
  status = writer.Commit();
  EXPECT_TRUE(status.ok()) << status;
  return result;
}

// What the directory holds is what was emitted, name by name, and what the plan foretold.
void CheckWritten(const fs::path& out, const Result& result) {
  const Checkpoint written = Must(Checkpoint::Open(out.string()));
  EXPECT_EQ(written.TensorNames().size(), result.tensors.size());
  for (const NamedTensor& tensor : result.tensors) {
    const auto found = written.Find(tensor.name);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->entry->dtype, tensor.dtype) << tensor.name;
    EXPECT_EQ(found->entry->shape, tensor.shape) << tensor.name;
    EXPECT_EQ(Must(written.Read(tensor.name)), tensor.data) << tensor.name;
  }
  int64_t bytes = 0;
  for (const fs::directory_entry& file : fs::directory_iterator(out)) {
    bytes += static_cast<int64_t>(file.file_size());
  }
  EXPECT_EQ(result.plan.output_bytes, bytes);
  for (const SafetensorsFile& file : written.files()) {
    EXPECT_EQ(file.header().metadata().at("format"), "pt");
  }
  std::map<std::string, std::string> planned;
  for (const KeptLinear& linear : result.plan.kept) planned[linear.module] = linear.why;
  EXPECT_EQ(planned, result.kept);
}

std::set<std::string> NamesWith(const std::vector<NamedTensor>& tensors, const std::string& part) {
  std::set<std::string> names;
  for (const NamedTensor& tensor : tensors) {
    const size_t at = tensor.name.find(part);
    if (at != std::string::npos) names.insert(tensor.name.substr(at + part.size()));
  }
  return names;
}

TEST(QuantizedCheckpointTest, TheTestModelBecomesTheFileThatItsTensorsSerializeTo) {
  const fs::path out = MakeDirectory("out");
  const Result result = Quantize(TestsDirectory() + "data/pocket-llama", out, {});
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

struct Case {
  std::string name;
  int64_t inner;
  WeightFormat format;
  OutputFormat output;
  int64_t max_shard_bytes;
  std::vector<std::string> kept;  // of a block
};

ActivationFormat ActivationsOf(OutputFormat output) {
  return output == OutputFormat::kIntQuantized ? ActivationFormat::kDynamicToken
                                               : ActivationFormat::kNone;
}

class QuantizedDirectoryTest : public ::testing::TestWithParam<Case> {};

// With 172 columns nothing of the MLP fits a group of 32; 172 outputs are no multiple of 8 either.
TEST_P(QuantizedDirectoryTest, HoldsExactlyWhatTheRunEmits) {
  const Case& test = GetParam();
  const fs::path source = MakeDirectory("source");
  const fs::path out = MakeDirectory("out");
  const std::string config_json = BiasedConfig(test.inner);
  testing::WriteRandomModel(source, config_json, DType::kBF16, 11, 40'000);
  ASSERT_TRUE(fs::exists(source / kShardIndexName));
  const Result result = Quantize(
      source, out,
      {{test.format, test.output, ActivationsOf(test.output)}, false, test.max_shard_bytes});
  CheckWritten(out, result);
  if (test.max_shard_bytes == kDefaultMaxShardBytes) {
    ASSERT_EQ(result.plan.files.size(), 1u);
    const std::vector<std::byte> expected = Must(SerializeSafetensors(ToWrite(result.tensors), {}));
    EXPECT_EQ(ReadFile(out / "model.safetensors"),
              std::string(reinterpret_cast<const char*>(expected.data()), expected.size()));
  } else {
    EXPECT_GT(result.plan.files.size(), 1u);
    for (const QuantizedFile& file : result.plan.files) {
      EXPECT_LE(file.layout.places.back().end - file.layout.places.front().begin,
                test.max_shard_bytes);
    }
  }
  std::vector<std::string> kept;
  for (const KeptLinear& linear : result.plan.kept) {
    if (absl::StartsWith(linear.module, "model.layers.1."))
      kept.push_back(linear.module.substr(15));
    EXPECT_NE(linear.why, "");
  }
  EXPECT_EQ(kept, test.kept);
  EXPECT_EQ(result.plan.kept.size(), 2 * test.kept.size());
  // Biases of packed and of kept Linears, and a head of its own.
  const std::set<std::string> names = NamesWith(result.tensors, "model.layers.0.");
  for (const char* bias :
       {"self_attn.q_proj.bias", "self_attn.o_proj.bias", "mlp.down_proj.bias"}) {
    EXPECT_TRUE(names.contains(bias)) << bias;
  }
  EXPECT_EQ(NamesWith(result.tensors, "lm_head."), std::set<std::string>{"weight"});

  const ModelConfig config = Must(ParseModelConfig("out", result.plan.config_json));
  EXPECT_EQ(config.dtype, DType::kF16);
  const bool plain =
      test.output == OutputFormat::kScaledFp16 || test.output == OutputFormat::kDequantizedFp16;
  EXPECT_EQ(config.quantization.has_value(), !plain);
  if (test.output == OutputFormat::kAwqGemm) {
    EXPECT_EQ(config.quantization->quant_method, "awq");
    EXPECT_EQ(config.quantization->bits, 4);
    EXPECT_EQ(config.quantization->group_size, test.format.group_size);
    EXPECT_TRUE(config.quantization->zero_point);
    EXPECT_EQ(config.quantization->version, "gemm");
  }
  const JsonValue json = Must(ParseJson("out", result.plan.config_json));
  const JsonValue* quantization = json.Find("quantization_config");
  if (test.output == OutputFormat::kAwqGemm) {
    std::vector<std::string> modules;
    const JsonValue* list = quantization->Find("modules_to_not_convert");
    ASSERT_EQ(list == nullptr, test.kept.empty());
    for (size_t i = 0; list != nullptr && i < list->AsArray()->size(); ++i) {
      modules.push_back(*(*list->AsArray())[i].AsString());
    }
    std::vector<std::string> expected;
    for (const std::string block : {"model.layers.0.", "model.layers.1."}) {
      for (const std::string& linear : test.kept) {
        expected.push_back(block + linear);
        // Some engines ask by the name of what they fuse.
        if (linear == "self_attn.v_proj") expected.push_back(block + "self_attn.qkv_proj");
        if (linear == "mlp.up_proj") expected.push_back(block + "mlp.gate_up_proj");
      }
    }
    EXPECT_EQ(modules, expected);
  }
  const bool gptq = test.output == OutputFormat::kGptq || test.output == OutputFormat::kGptqV2;
  ASSERT_EQ(fs::exists(out / "quantize_config.json"), gptq);
  if (gptq) {
    EXPECT_EQ(ReadFile(out / "quantize_config.json"), JsonText(*quantization));
  }
  if (plain) {
    EXPECT_EQ(quantization, nullptr);
    // A plain model: every tensor that the config asks for, and no other.
    const SmallModel model(out.string());
    EXPECT_TRUE(CheckModelTensors(model.checkpoint, model.family, model.config).ok());
  }
}

constexpr WeightFormat k4Bit32{4, 32, false, DType::kF16};
constexpr WeightFormat k3Bit32{3, 32, true, DType::kF16};
constexpr WeightFormat k4BitRows{4, -1, false, DType::kF16};
constexpr WeightFormat k4BitSymmetric{4, 32, true, DType::kF16};
constexpr WeightFormat k8BitRows{8, -1, true, DType::kF32};

INSTANTIATE_TEST_SUITE_P(
    Formats, QuantizedDirectoryTest,
    ::testing::Values(
        Case{"all_of_the_mlp_kept",
             172,
             k4Bit32,
             OutputFormat::kAwqGemm,
             kDefaultMaxShardBytes,
             {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}},
        Case{
            "down_kept_in_shards", 168, k4Bit32, OutputFormat::kAwqGemm, 30'000, {"mlp.down_proj"}},
        Case{"nothing_kept", 192, k4Bit32, OutputFormat::kAwqGemm, 50'000, {}},
        Case{"whole_rows", 168, k4BitRows, OutputFormat::kAwqGemm, 50'000, {}},
        Case{"gptq", 168, k4BitSymmetric, OutputFormat::kGptq, 50'000, {"mlp.down_proj"}},
        Case{"gptq_of_three_bits",
             168,
             k3Bit32,
             OutputFormat::kGptqV2,
             50'000,
             {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}},
        Case{"compressed",
             172,
             k4Bit32,
             OutputFormat::kCompressedTensors,
             50'000,
             {"mlp.down_proj"}},
        Case{"compressed_rows", 172, k4BitRows, OutputFormat::kCompressedTensors, 50'000, {}},
        Case{"w8a8", 172, k8BitRows, OutputFormat::kIntQuantized, 50'000, {}},
        Case{"scaled", 172, k3Bit32, OutputFormat::kScaledFp16, 50'000, {"mlp.down_proj"}},
        Case{"decoded", 172, k3Bit32, OutputFormat::kDequantizedFp16, 50'000, {"mlp.down_proj"}}),
    [](const auto& test) { return test.param.name; });

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
  const Result result =
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
  const Result result =
      Quantize(source, out, {{{3, 32, false, DType::kF16}, OutputFormat::kScaledFp16}},
               /*always_scale=*/true);
  EXPECT_GE(result.scaled, 6) << "of 8 groups";
  const double error = LogitsError(source, out);
  EXPECT_LT(error, 1e-3);
  EXPECT_GT(error, 0) << "the source is F32";
}

QuantizedCheckpointPlan PlanFor(const std::string& config_json,
                                const QuantizedCheckpointParams& params) {
  return Must(PlanQuantizedCheckpoint(Must(ParseModelConfig("dir/config.json", config_json)),
                                      config_json, params));
}

TEST(QuantizedConfigTest, KeepsMembersTheirOrderAndTheirNumbers) {
  const std::string config =
      "{\"zeta\": [1, 2.0, {\"b\": null, \"a\": []}], \"architectures\": [\"LlamaForCausalLM\"],"
      "\"hidden_size\": 64, \"intermediate_size\": 64, \"num_hidden_layers\": 1,"
      "\"torch_dtype\": \"bfloat16\", \"num_attention_heads\": 4, \"vocab_size\": 96,"
      "\"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"big\": 18446744073709551615,"
      "\"note\": \"\\u00e9\\n\"}";
  EXPECT_EQ(
      PlanFor(config, {k4Bit32}).config_json,
      "{\n"
      "  \"zeta\": [\n    1,\n    2.0,\n    {\n      \"b\": null,\n      \"a\": []\n    }\n  ],\n"
      "  \"architectures\": [\n    \"LlamaForCausalLM\"\n  ],\n"
      "  \"hidden_size\": 64,\n  \"intermediate_size\": 64,\n  \"num_hidden_layers\": 1,\n"
      "  \"torch_dtype\": \"float16\",\n  \"num_attention_heads\": 4,\n"
      "  \"vocab_size\": 96,\n  \"rms_norm_eps\": 1e-05,\n  \"rope_theta\": 10000.0,\n"
      "  \"big\": 18446744073709551615,\n  \"note\": \"\xC3\xA9\\n\",\n"
      "  \"quantization_config\": {\n    \"quant_method\": \"awq\",\n    \"bits\": 4,\n"
      "    \"group_size\": 32,\n    \"zero_point\": true,\n    \"version\": \"gemm\"\n  }\n"
      "}\n");
}

// Readers look at either name: both say float16, and one stands there if none did.
TEST(QuantizedConfigTest, EveryNameOfTheDTypeSaysFloat16) {
  const std::string rest =
      "\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 64, \"intermediate_size\": 64, "
      "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"vocab_size\": 96, "
      "\"rms_norm_eps\": 1e-5}";
  for (const std::string before : {"{", "{\"torch_dtype\": \"float32\", ", "{\"dtype\": null, ",
                                   "{\"dtype\": \"bfloat16\", \"torch_dtype\": \"bfloat16\", "}) {
    for (const OutputFormat output : {OutputFormat::kAwqGemm, OutputFormat::kDequantizedFp16}) {
      const JsonValue json =
          Must(ParseJson("out", PlanFor(before + rest, {{k4Bit32, output}}).config_json));
      EXPECT_EQ(*json.Find("torch_dtype")->AsString(), "float16") << before;
      const JsonValue* dtype = json.Find("dtype");
      EXPECT_EQ(dtype != nullptr, absl::StrContains(before, "\"dtype\""));
      EXPECT_TRUE(dtype == nullptr || *dtype->AsString() == "float16") << before;
    }
  }
}

TEST(QuantizedCheckpointErrorsTest, PlansOfWhatCannotBeDoneNameTheField) {
  const auto error = [](ModelConfig config, const QuantizedCheckpointParams& params) {
    const absl::Status status = PlanQuantizedCheckpoint(config, BiasedConfig(172), params).status();
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
  ModelConfig quantized = config;
  quantized.quantization = QuantizationConfig{"gptq", 4, 128, true, ""};
  EXPECT_THAT(
      error(quantized, {k4Bit32}),
      StartsWith("dir/config.json: quantization_config.quant_method is \"gptq\"; expected"));
  ModelConfig unknown = config;
  unknown.architecture = "GPT2LMHeadModel";
  EXPECT_THAT(error(unknown, {k4Bit32}), HasSubstr("architectures[0] is \"GPT2LMHeadModel\""));
}

class CopyOuterTensorsTest : public ::testing::Test {
 protected:
  CopyOuterTensorsTest() : model_(TestsDirectory() + "golden/forward/untied_head") {}

  std::string Error(const TensorSource& source) {
    const absl::Status status = CopyOuterTensors(
        source, model_.config,
        [](const TensorShape&, int64_t, absl::Span<const std::byte>) { return absl::OkStatus(); });
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  SmallModel model_;
};

TEST_F(CopyOuterTensorsTest, WhatF16CannotHoldIsNamed) {
  const std::vector<int64_t> shape = {model_.config.vocab_size, model_.config.hidden_size};
  for (const auto& [value, text] : {std::pair{7e4f, "is 70144"}, {std::nanf(""), "is nan"}}) {
    testing::AlteredSource source(model_.checkpoint);
    std::mt19937_64 random(1);
    NamedTensor head = testing::RandomTensor({"lm_head.weight", shape}, DType::kBF16, random);
    const uint16_t bits = F32ToBF16(value);
    std::memcpy(head.data.data() + 2 * (5 * shape[1] + 3), &bits, 2);
    source.Put(head);
    EXPECT_THAT(Error(source), HasSubstr("lm_head.weight: element [5, 3] " + std::string(text)));
  }
}

TEST_F(CopyOuterTensorsTest, TensorsThatAreMissingOrOfAnotherShapeAreNamed) {
  testing::AlteredSource missing(model_.checkpoint);
  missing.Remove("model.norm.weight");
  EXPECT_THAT(Error(missing), HasSubstr("tensor \"model.norm.weight\" is missing"));
  testing::AlteredSource reshaped(model_.checkpoint);
  reshaped.Put({"model.norm.weight", DType::kF32, {1}, std::vector<std::byte>(4)});
  EXPECT_THAT(Error(reshaped), HasSubstr("tensor \"model.norm.weight\": shape is [1]; expected"));
}

TEST_F(CopyOuterTensorsTest, StopsWhenTheReceiverFails) {
  int calls = 0;
  const absl::Status status =
      CopyOuterTensors(model_.checkpoint, model_.config,
                       [&](const TensorShape&, int64_t, absl::Span<const std::byte>) {
                         ++calls;
                         return absl::UnavailableError("gone");
                       });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(calls, 1);
}

// More than one range, and F32 that is rounded: 300 rows of 4096 are 2.4 MB of F16.
TEST_F(CopyOuterTensorsTest, LargeTensorsComeInRanges) {
  ModelConfig config = model_.config;
  config.vocab_size = 600;
  config.hidden_size = 4096;
  testing::AlteredSource source(model_.checkpoint);
  std::mt19937_64 random(2);
  const NamedTensor embeddings =
      testing::RandomTensor({"model.embed_tokens.weight", {600, 4096}}, DType::kF32, random);
  source.Put(embeddings);
  source.Put(testing::RandomTensor({"model.norm.weight", {4096}}, DType::kF16, random));
  source.Put(testing::RandomTensor({"lm_head.weight", {600, 4096}}, DType::kF16, random));
  std::map<std::string, std::vector<std::byte>> received;
  int ranges = 0;
  const absl::Status status = CopyOuterTensors(
      source, config,
      [&](const TensorShape& tensor, int64_t offset, absl::Span<const std::byte> bytes) {
        std::vector<std::byte>& data = received[tensor.name];
        EXPECT_EQ(static_cast<int64_t>(data.size()), offset);
        EXPECT_LE(bytes.size(), size_t{4} << 20);
        data.insert(data.end(), bytes.begin(), bytes.end());
        ++ranges;
        return absl::OkStatus();
      });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_GT(ranges, 5);
  const std::vector<std::byte>& half = received["model.embed_tokens.weight"];
  ASSERT_EQ(half.size(), embeddings.data.size() / 2);
  for (int64_t i = 0; i < 600 * 4096; ++i) {
    float value;
    uint16_t bits;
    std::memcpy(&value, embeddings.data.data() + 4 * i, 4);
    std::memcpy(&bits, half.data() + 2 * i, 2);
    ASSERT_EQ(F16ToF32(bits), RoundToF16(value)) << i;
  }
}

}  // namespace
}  // namespace salient
