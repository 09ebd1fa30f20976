#include "core/engines/inspection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/checkpoint/checkpoint.h"
#include "core/engines/describe_model.h"
#include "core/engines/engine.h"
#include "core/engines/model_description.h"
#include "core/model/families/family.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/layout.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "tests/core/engines/model_descriptions.h"
#include "tests/core/model/llama_places.h"
#include "tests/support/altered_source.h"
#include "tests/support/planned_model.h"
#include "tests/support/shared_files.h"
#include "tests/support/source_directory.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::Stored;

constexpr char kConfig[] = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-05,
    "tie_word_embeddings": true})";

absl::StatusOr<ModelDescription> PlanOf(const StoredFormat& stored) {
  const Model model = PlanModel(ParseModelConfig("config.json", kConfig).value()).value();
  const auto plan = PlanQuantizedCheckpoint(model, kConfig, {stored});
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
  ASSERT_EQ(model->linears.size(), 3u * testing::llama::kLinears);
  for (const LinearDescription& linear : model->linears) EXPECT_TRUE(linear.quantized);
  // These are embeddings and norms, and in a block q, o, k, v, gate, up, down.
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
  for (const LinearDescription& linear : model->linears) {
    EXPECT_EQ(linear.quantized, !absl::EndsWith(linear.module, "down_proj")) << linear.module;
  }
  EXPECT_THAT(model->skipped,
              ::testing::ElementsAre("model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj",
                                     "model.layers.2.mlp.down_proj"));
}

// Describes a plan whose config says `to` instead of `from`.
absl::StatusOr<ModelDescription> PlanSaying(const QuantizedCheckpointParams& params,
                                            const std::string& from, const std::string& to) {
  const Model model = PlanModel(ParseModelConfig("config.json", kConfig).value()).value();
  auto plan = PlanQuantizedCheckpoint(model, kConfig, params);
  if (!plan.ok()) return plan.status();
  if (!absl::StrContains(plan->config_json, from)) return absl::NotFoundError(from);
  plan->config_json = absl::StrReplaceAll(plan->config_json, {{from, to}});
  return DescribePlan(*plan, /*blocks=*/0);
}

TEST(DescribePlanTest, OldNamesOfAwqAreSeen) {
  const StoredFormat awq = Stored(OutputFormat::kAwqGemm, 4, 64, false);
  for (const auto& [from, to] :
       {std::pair{"\"bits\"", "\"w_bit\""}, {"\"group_size\"", "\"q_group_size\""}}) {
    const auto old = PlanSaying({awq}, from, to);
    ASSERT_TRUE(old.ok()) << old.status();
    EXPECT_TRUE(old->old_names) << from;
  }
  EXPECT_FALSE(PlanOf(awq)->old_names);
}

TEST(DescribePlanTest, FieldsThatCompressedTensorsDoesNotHaveAreSeen) {
  const StoredFormat packed = Stored(OutputFormat::kCompressedTensors, 4, 64, true);
  const auto argument =
      PlanSaying({packed}, "\"num_bits\": 4", "\"percdamp\": 0.1, \"num_bits\": 4");
  ASSERT_TRUE(argument.ok()) << argument.status();
  EXPECT_EQ(argument->unknown_in_arguments, "config_groups.group_0.weights.percdamp");
  EXPECT_EQ(argument->unknown_in_group, "");
  const auto group = PlanSaying({packed}, "\"targets\"", "\"note\": 1, \"targets\"");
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ(group->unknown_in_group, "config_groups.group_0.note");
  const auto ours = PlanOf(packed);
  ASSERT_TRUE(ours.ok()) << ours.status();
  EXPECT_EQ(ours->unknown_in_arguments + ours->unknown_in_group, "");
  EXPECT_EQ(ours->config_groups, 1);
}

TEST(DescribePlanTest, ActorderOfCompressedTensorsIsSeen) {
  const StoredFormat packed = Stored(OutputFormat::kCompressedTensors, 4, 64, true);
  for (const auto& [actorder, moves] : {std::pair{"\"group\"", true},
                                        {"\"dynamic\"", true},
                                        {"true", true},
                                        {"\"weight\"", false},
                                        {"\"static\"", false},
                                        {"false", false}}) {
    const auto model =
        PlanSaying({packed}, "\"actorder\": null", absl::StrCat("\"actorder\": ", actorder));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->act_order, moves) << actorder;
  }
}

TEST(DescribePlanTest, TheListOfModulesInBlocksIsSeen) {
  // 192 is no multiple of 128: down_proj stays F16 in every block.
  const auto kept = PlanOf(Stored(OutputFormat::kGptq, 4, 128, true));
  ASSERT_TRUE(kept.ok()) << kept.status();
  for (const LinearDescription& linear : kept->linears) {
    EXPECT_EQ(linear.in_block_list,
              std::optional<bool>(!absl::EndsWith(linear.module, "down_proj")));
  }
  const auto all = PlanOf(Stored(OutputFormat::kGptq, 4, 64, true));
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->linears.front().in_block_list, std::nullopt);
}

// This is a checkpoint of zeros beside pocket-llama's other tensors, quantized as params say.
class QuantizedPocket {
 public:
  explicit QuantizedPocket(const QuantizedCheckpointParams& params)
      : directory_(testing::SourceDirectory() + "/tests/data/pocket-llama"),
        checkpoint_(Checkpoint::Open(directory_).value()),
        source_(checkpoint_) {
    const std::string json = ReadTextFile(directory_ + "/config.json", 1 << 20).value();
    const Model model = PlanModel(ParseModelConfig("config.json", json).value()).value();
    const auto plan = PlanQuantizedCheckpoint(model, json, params).value();
    config_json_ = plan.config_json;
    for (const LinearDescription& linear : DescribeLinears(model)) {
      source_.Remove(linear.module + ".weight");
    }
    for (const QuantizedFile& file : plan.files) {
      for (const SafetensorsLayout::Place& place : file.layout.places) {
        source_.Put({place.tensor.name, place.tensor.dtype, place.tensor.shape,
                     std::vector<std::byte>(static_cast<size_t>(place.end - place.begin))});
      }
    }
  }

  testing::AlteredSource& source() { return source_; }
  // Says `to` instead of `from` in config.json.
  void Say(const std::string& from, const std::string& to) {
    ASSERT_THAT(config_json_, HasSubstr(from));
    config_json_ = absl::StrReplaceAll(config_json_, {{from, to}});
  }

  absl::StatusOr<Inspection> Inspected() const {
    const ModelConfig config = ParseModelConfig("config.json", config_json_).value();
    return Inspect(source_, testing::Planned(config), config_json_, /*tensor_parallel=*/1);
  }

 private:
  std::string directory_;
  Checkpoint checkpoint_;
  testing::AlteredSource source_;
  std::string config_json_;
};

TEST(InspectTest, AMixedCheckpointHasEveryFormatThatOfMostFirst) {
  for (const OutputFormat output : {OutputFormat::kGptq, OutputFormat::kCompressedTensors}) {
    QuantizedCheckpointParams params{Stored(output, 4, 64, true)};
    for (const char* linear : {"q_proj", "k_proj", "v_proj"}) {
      params.overrides.push_back({absl::StrCat("model.layers.0.self_attn.", linear), 8, 0, false});
    }
    const auto found = QuantizedPocket(params).Inspected();
    ASSERT_TRUE(found.ok()) << found.status();
    // The first Linear has 8 bits, and most have 4.
    EXPECT_EQ(found->stored.format.bits, 4);
    ASSERT_EQ(found->formats.size(), 2u);
    EXPECT_EQ(found->formats[0].format.bits, 4);
    EXPECT_EQ(found->formats[1].format.bits, 8);
    EXPECT_EQ(found->formats[1].linears, 3);
    EXPECT_EQ(found->formats[0].linears + 3, found->quantized_linears);
  }
}

TEST(InspectTest, AQuantizedHeadIsNamed) {
  for (const OutputFormat output : {OutputFormat::kAwqGemm, OutputFormat::kCompressedTensors}) {
    QuantizedPocket pocket({Stored(output, 4, 64, true)});
    pocket.Say("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    const bool packed = output == OutputFormat::kCompressedTensors;
    const std::string name = packed ? "lm_head.weight_packed" : "lm_head.qweight";
    pocket.source().Put({name, DType::kI32, {1}, std::vector<std::byte>(4)});
    const absl::Status refused = pocket.Inspected().status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr("\"lm_head\" is quantized (tensor \"" + name +
                          "\"); expected \"lm_head.weight\", not quantized, [2048, 256]"));
  }
}

TEST(InspectTest, WithoutAQuantizationConfigTheFileBesideIsNamed) {
  QuantizedPocket pocket({Stored(OutputFormat::kGptq, 4, 64, true)});
  pocket.Say("\"quantization_config\"", "\"something_else\"");
  const absl::Status refused = pocket.Inspected().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("tensor \"model.layers.0.self_attn.q_proj.qweight\" is quantized, but "
                        "config.json has no quantization_config; expected it there, as "
                        "quantize_config.json or quant_config.json beside it may have it"));
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

// Lists what real tools wrote; each loads in vLLM on a CPU, which was tried.
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
  return Inspect(*checkpoint, *PlanModel(*config), *json, /*tensor_parallel=*/1);
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
    const auto inspection = Inspect(source, *PlanModel(*config), *json, /*tensor_parallel=*/1);
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
