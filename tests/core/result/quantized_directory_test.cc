// Tests a quantized directory in every layout: what it holds is what the run emits and the plan
// foretold.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "core/checkpoint/shard_index.h"
#include "core/config/json.h"
#include "core/config/model/model_config.h"
#include "core/model/block_weights.h"
#include "core/result/quantization_config.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/small_model.h"
#include "tests/core/result/written_model.h"
#include "tests/support/random_model.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using testing::BiasedConfig;
using testing::CheckWritten;
using testing::k4Bit32;
using testing::MakeDirectory;
using testing::Must;
using testing::NamesWith;
using testing::Quantize;
using testing::ReadFile;
using testing::SmallModel;
using testing::WrittenModel;

struct Case {
  std::string name;
  int64_t inner;
  WeightFormat format;
  OutputFormat output;
  int64_t max_shard_bytes;
  std::vector<std::string> kept;  // They are those of a block.
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
  const WrittenModel result = Quantize(
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
  EXPECT_EQ(config.dtype, DType::kBF16);
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
    // A plain model has every tensor that the config asks for, and no other.
    const SmallModel model(out.string());
    EXPECT_TRUE(CheckModelTensors(model.checkpoint, model.plan).ok());
  }
}

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

}  // namespace
}  // namespace salient
