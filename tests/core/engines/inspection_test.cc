#include "core/engines/inspection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/engines/describe_model.h"
#include "tests/core/engines/described_models.h"
#include "tests/support/altered_source.h"
#include "tests/support/shared_files.h"
#include "tests/support/source_directory.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::Stored;

constexpr char kConfig[] = R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 128,
    "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-05,
    "tie_word_embeddings": true})";

absl::StatusOr<DescribedModel> PlanOf(const StoredFormat& stored) {
  const ModelConfig config = ParseModelConfig("config.json", kConfig).value();
  const auto plan = PlanQuantizedCheckpoint(config, kConfig, {stored});
  if (!plan.ok()) return plan.status();
  return DescribePlan(*plan, /*blocks=*/0);
}

TEST(DescribePlanTest, APlanIsDescribedByWhatItWillWrite) {
  const auto model = PlanOf(Stored(OutputFormat::kAwqGemm, 4, 64, false));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->architecture, "LlamaForCausalLM");
  EXPECT_EQ(model->quant_method, "awq");
  EXPECT_EQ(model->stored.output, OutputFormat::kAwqGemm);
  EXPECT_EQ(model->stored.format.bits, 4);
  EXPECT_EQ(model->stored.format.group_size, 64);
  EXPECT_EQ(model->stored.format.scale_dtype, DType::kF16);
  ASSERT_EQ(model->linears.size(), 3u * kLinearRoles);
  for (const DescribedLinear& linear : model->linears) EXPECT_TRUE(linear.quantized);
  EXPECT_FALSE(model->stores_tied_head);
  // Embeddings, norms; in a block q, o, k, v, gate, up, down.
  EXPECT_EQ(model->parameters,
            100 * 128 + 128 + 3 * (2 * 128 + 2 * 128 * 128 + 2 * 64 * 128 + 3 * 128 * 192));
}

TEST(DescribePlanTest, OneGroupIsAsLargeAsTheConfigSays) {
  for (const int64_t group_size : {int64_t{128}, kWholeRow}) {
    const auto model = PlanOf(Stored(OutputFormat::kAwqGemm, 4, group_size, false));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->linears.front().format.group_size, group_size);
  }
}

TEST(DescribePlanTest, KeptLinearsAreNotQuantized) {
  // 192 is no multiple of 128.
  const auto model = PlanOf(Stored(OutputFormat::kAwqGemm, 4, 128, false));
  ASSERT_TRUE(model.ok()) << model.status();
  for (const DescribedLinear& linear : model->linears) {
    EXPECT_EQ(linear.quantized, linear.role != LinearRole::kDown) << linear.module;
  }
  EXPECT_THAT(model->skipped,
              ::testing::ElementsAre("model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj",
                                     "model.layers.2.mlp.down_proj"));
}

struct Peer {
  const char* directory;
  const char* quant_method;
  OutputFormat output;
  int bits;
  int64_t group_size;
  ActivationFormat activations;
  const char* loads;
};

// What real tools wrote; each loads in vLLM on a CPU, which was tried.
const Peer kPeers[] = {
    {"autoawq-awq", "awq", OutputFormat::kAwqGemm, 4, 128, ActivationFormat::kNone,
     "vllm vllm-cpu sglang tgi lmdeploy transformers"},
    {"gptqmodel-awq", "awq", OutputFormat::kAwqGemm, 4, 128, ActivationFormat::kNone,
     "vllm vllm-cpu sglang tgi lmdeploy transformers"},
    {"autoround-awq", "awq", OutputFormat::kAwqGemm, 4, 128, ActivationFormat::kNone,
     "vllm vllm-cpu sglang tgi lmdeploy transformers"},
    {"gptqmodel-gptq", "gptq", OutputFormat::kGptq, 4, 128, ActivationFormat::kNone,
     "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp"},
    {"llmcompressor-awq", "compressed-tensors", OutputFormat::kCompressedTensors, 4, 128,
     ActivationFormat::kNone, "vllm vllm-cpu sglang lmdeploy llama-cpp"},
    {"llmcompressor-gptq", "compressed-tensors", OutputFormat::kCompressedTensors, 4, 128,
     ActivationFormat::kNone, "vllm vllm-cpu sglang tgi lmdeploy transformers llama-cpp"},
    {"llmcompressor-w8a8", "compressed-tensors", OutputFormat::kIntQuantized, 8, kWholeRow,
     ActivationFormat::kDynamicToken, "vllm vllm-cpu sglang tgi transformers llama-cpp"},
};

absl::StatusOr<Inspection> InspectDirectory(const std::string& directory) {
  const auto checkpoint = Checkpoint::Open(directory);
  if (!checkpoint.ok()) return checkpoint.status();
  const std::string path = directory + "/config.json";
  const auto json = ReadTextFile(path, 1 << 20);
  if (!json.ok()) return json.status();
  const auto config = ParseModelConfig(path, *json);
  if (!config.ok()) return config.status();
  return Inspect(*checkpoint, *config, *json, /*tensor_parallel=*/1);
}

// Nobody has checked the shapes of what the config's method does not have.
TEST(InspectTest, TensorsOfAnotherLayoutThatLieAroundAreNotLookedAt) {
  const std::string directory = testing::SourceDirectory() + "/tests/data/pocket-llama";
  const auto checkpoint = Checkpoint::Open(directory);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto json = ReadTextFile(directory + "/config.json", 1 << 20);
  ASSERT_TRUE(json.ok()) << json.status();
  const auto config = ParseModelConfig("config.json", *json);
  ASSERT_TRUE(config.ok()) << config.status();
  for (const char* suffix : {".qweight", ".weight_packed"}) {
    testing::AlteredSource source(*checkpoint);
    const std::string name = std::string("model.layers.0.self_attn.q_proj") + suffix;
    source.Put({name, DType::kI32, {}, std::vector<std::byte>(4)});
    const auto inspection = Inspect(source, *config, *json, /*tensor_parallel=*/1);
    ASSERT_TRUE(inspection.ok()) << inspection.status();
    EXPECT_EQ(inspection->quantized_linears, 0);
  }
}

TEST(InspectionTest, DirectoriesOfRealToolsAreWhatTheyAre) {
  for (const Peer& peer : kPeers) {
    const std::string directory = testing::SharedFile(std::string("peers/") + peer.directory);
    if (directory.empty()) GTEST_SKIP() << "SKIPPED: no shared directory peers/" << peer.directory;
    const auto found = InspectDirectory(directory);
    ASSERT_TRUE(found.ok()) << peer.directory << ": " << found.status();
    EXPECT_EQ(found->architecture, "LlamaForCausalLM");
    EXPECT_EQ(found->quant_method, peer.quant_method) << peer.directory;
    EXPECT_EQ(found->stored.output, peer.output) << peer.directory;
    EXPECT_EQ(found->stored.format.bits, peer.bits) << peer.directory;
    EXPECT_EQ(found->stored.format.group_size, peer.group_size) << peer.directory;
    EXPECT_EQ(found->stored.activations, peer.activations) << peer.directory;
    EXPECT_EQ(found->quantized_linears % 7, 0);
    EXPECT_GT(found->quantized_linears, 0);
    EXPECT_EQ(found->plain_linears, 0);
    std::string loads;
    for (const EngineVerdict& verdict : found->engines) {
      if (!verdict.loads()) continue;
      if (!loads.empty()) loads += " ";
      loads += std::string(EngineName(verdict.engine));
    }
    EXPECT_EQ(loads, peer.loads) << peer.directory;
  }
}

TEST(InspectionTest, APlainModelLoadsEverywhere) {
  const std::string directory = testing::SharedFile("models/pocket-llama-salient");
  if (directory.empty()) GTEST_SKIP() << "SKIPPED: no shared model";
  const auto found = InspectDirectory(directory);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->quant_method, "");
  EXPECT_EQ(found->quantized_linears, 0);
  for (const EngineVerdict& verdict : found->engines) {
    EXPECT_TRUE(verdict.loads()) << EngineName(verdict.engine);
  }
}

}  // namespace
}  // namespace salient
