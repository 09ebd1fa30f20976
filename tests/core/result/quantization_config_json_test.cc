#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <regex.h>

#include <string>
#include <vector>

#include "core/config/json.h"
#include "core/model/model.h"
#include "core/pack/compressed_tensors.h"
#include "core/result/quantization_config.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr WeightFormat k4Bit{4, 128, true};

std::vector<LinearFormat> Linears(const std::vector<std::string>& modules,
                                  const WeightFormat& format = k4Bit) {
  std::vector<LinearFormat> linears;
  for (const std::string& module : modules) linears.push_back({module, format});
  return linears;
}

// Returns what engines fuse in two blocks.
std::vector<FusedModules> Fused() {
  std::vector<FusedModules> fused;
  for (const std::string block : {"model.layers.0.", "model.layers.1."}) {
    const std::string attention = block + "self_attn.";
    fused.push_back({attention + "qkv_proj",
                     {attention + "q_proj", attention + "k_proj", attention + "v_proj"}});
    fused.push_back({block + "mlp.gate_up_proj", {block + "mlp.gate_proj", block + "mlp.up_proj"}});
  }
  return fused;
}

JsonValue Config(const StoredFormat& stored, const std::vector<LinearFormat>& linears,
                 const std::vector<std::string>& kept = {}) {
  const auto config = QuantizationConfigJson(stored, linears, kept, Fused());
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : JsonValue();
}

std::vector<std::string> Keys(const JsonValue& object) {
  std::vector<std::string> keys;
  for (const JsonValue::Member& member : *object.AsObject()) keys.push_back(member.first);
  return keys;
}

std::vector<std::string> Strings(const JsonValue& array) {
  std::vector<std::string> strings;
  for (const JsonValue& value : *array.AsArray()) strings.push_back(*value.AsString());
  return strings;
}

TEST(QuantizationConfigJsonTest, Gptq) {
  EXPECT_EQ(JsonText(Config({k4Bit, OutputFormat::kGptq}, Linears({"model.layers.0.a"}))),
            "{\n  \"quant_method\": \"gptq\",\n  \"bits\": 4,\n  \"group_size\": 128,\n"
            "  \"desc_act\": false,\n  \"sym\": true,\n  \"checkpoint_format\": \"gptq\",\n"
            "  \"lm_head\": false\n}\n");
  const JsonValue v2 = Config({{3, kWholeRow, false}, OutputFormat::kGptqV2}, {});
  EXPECT_EQ(*v2.Find("checkpoint_format")->AsString(), "gptq_v2");
  EXPECT_EQ(v2.Find("bits")->AsInt64(), 3);
  EXPECT_EQ(v2.Find("group_size")->AsInt64(), -1);
  EXPECT_FALSE(*v2.Find("sym")->AsBool());
}

// Engines match with "match": from the beginning, not to the end.
bool Matches(const std::string& key, const std::string& module) {
  regex_t compiled;
  if (regcomp(&compiled, ("^(" + key.substr(2) + ")").c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
    ADD_FAILURE() << key << " is no pattern";
    return false;
  }
  const bool found = regexec(&compiled, module.c_str(), 0, nullptr, 0) == 0;
  regfree(&compiled);
  return found;
}

TEST(QuantizationConfigJsonTest, GptqNamesKeptLinearsAndThoseOfOtherFormats) {
  std::vector<LinearFormat> linears =
      Linears({"model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj",
               "model.layers.1.self_attn.o_proj", "model.layers.1.self_attn.q_proj"});
  linears[2].format.bits = 8;
  linears[2].format.group_size = 64;
  const JsonValue config = Config({k4Bit, OutputFormat::kGptq}, linears,
                                  {"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj",
                                   "model.layers.0.mlp.down_proj"});
  const JsonValue& dynamic = *config.Find("dynamic");
  EXPECT_THAT(Keys(dynamic), ElementsAre("-:^model\\.layers\\.0\\.mlp\\.gate_proj$",
                                         "-:^model\\.layers\\.0\\.mlp\\.up_proj$",
                                         "-:^model\\.layers\\.0\\.mlp\\.gate_up_proj$",
                                         "-:^model\\.layers\\.0\\.mlp\\.down_proj$",
                                         "+:^model\\.layers\\.1\\.self_attn\\.o_proj$"));
  EXPECT_EQ(JsonText((*dynamic.AsObject())[0].second), "{}\n");
  EXPECT_EQ(JsonText((*dynamic.AsObject())[4].second),
            "{\n  \"bits\": 8,\n  \"group_size\": 64\n}\n");
  const std::string key = Keys(dynamic)[1];
  EXPECT_TRUE(Matches(key, "model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(Matches(key, "model.layers.0.mlp.up_proj_2"));
  EXPECT_FALSE(Matches(key, "model.layers.0.mlpxup_proj"));
  EXPECT_FALSE(Matches(key, "model.layers.10.mlp.up_proj"));
  // Blocks differ, which modules_in_block_to_quantize cannot say.
  EXPECT_EQ(config.Find("modules_in_block_to_quantize"), nullptr);
}

TEST(QuantizationConfigJsonTest, GptqSaysOfLikeBlocksWhatIsQuantizedInThem) {
  const JsonValue config =
      Config({k4Bit, OutputFormat::kGptq},
             Linears({"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.o_proj",
                      "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.o_proj"}),
             {"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"});
  const JsonValue::Array& lists = *config.Find("modules_in_block_to_quantize")->AsArray();
  ASSERT_EQ(lists.size(), 1u) << "a list of lists: readers flatten it";
  EXPECT_THAT(Strings(lists[0]), ElementsAre("self_attn.q_proj", "self_attn.o_proj"));
}

TEST(QuantizationConfigJsonTest, CompressedTensors) {
  EXPECT_EQ(
      JsonText(Config({{4, 128, true}, OutputFormat::kCompressedTensors}, Linears({"a.0.b"}),
                      {"model.layers.0.mlp.down_proj"})),
      "{\n  \"quant_method\": \"compressed-tensors\",\n  \"format\": \"pack-quantized\",\n"
      "  \"quantization_status\": \"compressed\",\n  \"ignore\": [\n    \"lm_head\",\n"
      "    \"model.layers.0.mlp.down_proj\"\n  ],\n  \"kv_cache_scheme\": null,\n"
      "  \"global_compression_ratio\": null,\n  \"config_groups\": {\n    \"group_0\": {\n"
      "      \"targets\": [\n        \"Linear\"\n      ],\n      \"format\": \"pack-quantized\",\n"
      "      \"weights\": {\n        \"num_bits\": 4,\n        \"type\": \"int\",\n"
      "        \"symmetric\": true,\n        \"strategy\": \"group\",\n"
      "        \"group_size\": 128,\n        \"dynamic\": false,\n        \"actorder\": null,\n"
      "        \"block_structure\": null,\n        \"observer\": \"minmax\",\n"
      "        \"observer_kwargs\": {}\n      },\n      \"input_activations\": null,\n"
      "      \"output_activations\": null\n    }\n  }\n}\n");
  const JsonValue channel = Config({{8, kWholeRow, false}, OutputFormat::kCompressedTensors}, {});
  const JsonValue& weights = *channel.Find("config_groups")->Find("group_0")->Find("weights");
  EXPECT_EQ(weights.Find("num_bits")->AsInt64(), 8);
  EXPECT_FALSE(*weights.Find("symmetric")->AsBool());
  EXPECT_EQ(*weights.Find("strategy")->AsString(), "channel");
  EXPECT_TRUE(weights.Find("group_size")->IsNull()) << "with any other strategy it is an error";
}

// The class of a fused Linear would win over the paths of its parts: all go by paths.
TEST(QuantizationConfigJsonTest, CompressedTensorsListsTheLinearsOfEachFormat) {
  std::vector<LinearFormat> linears = Linears({"m.0.q", "m.0.o", "m.1.q", "m.1.o"});
  linears[1].format = linears[3].format = {8, kWholeRow, true};
  const JsonValue config = Config({k4Bit, OutputFormat::kCompressedTensors}, linears);
  const JsonValue& groups = *config.Find("config_groups");
  ASSERT_THAT(Keys(groups), ElementsAre("group_0", "group_1"));
  EXPECT_THAT(Strings(*groups.Find("group_0")->Find("targets")),
              ElementsAre("re:^m\\.0\\.q$", "re:^m\\.1\\.q$"));
  EXPECT_EQ(groups.Find("group_0")->Find("weights")->Find("num_bits")->AsInt64(), 4);
  EXPECT_THAT(Strings(*groups.Find("group_1")->Find("targets")),
              ElementsAre("re:^m\\.0\\.o$", "re:^m\\.1\\.o$"));
  EXPECT_EQ(groups.Find("group_1")->Find("weights")->Find("num_bits")->AsInt64(), 8);
  EXPECT_EQ(*groups.Find("group_1")->Find("weights")->Find("strategy")->AsString(), "channel");
}

TEST(QuantizationConfigJsonTest, IntQuantizedSaysWhatHappensToActivations) {
  struct Case {
    ActivationFormat activations;
    int64_t group_size;
    const char* weights;
    const char* strategy;
    bool dynamic;
  };
  for (const Case& c :
       {Case{ActivationFormat::kDynamicToken, kWholeRow, "channel", "token", true},
        Case{ActivationFormat::kStaticTensor, kWholeTensor, "tensor", "tensor", false}}) {
    const JsonValue config =
        Config({{8, c.group_size, true}, OutputFormat::kIntQuantized, c.activations}, {});
    EXPECT_EQ(*config.Find("format")->AsString(), "int-quantized");
    const JsonValue& group = *config.Find("config_groups")->Find("group_0");
    EXPECT_EQ(*group.Find("format")->AsString(), "int-quantized");
    EXPECT_EQ(*group.Find("weights")->Find("strategy")->AsString(), c.weights);
    EXPECT_TRUE(group.Find("weights")->Find("group_size")->IsNull());
    const JsonValue& inputs = *group.Find("input_activations");
    EXPECT_EQ(inputs.Find("num_bits")->AsInt64(), 8);
    EXPECT_TRUE(*inputs.Find("symmetric")->AsBool());
    EXPECT_EQ(*inputs.Find("strategy")->AsString(), c.strategy);
    EXPECT_EQ(*inputs.Find("dynamic")->AsBool(), c.dynamic);
    EXPECT_EQ(inputs.Find("observer")->IsNull(), c.dynamic);
  }
}

TEST(QuantizationConfigJsonTest, PlainWeightsSayNothing) {
  for (const OutputFormat output : {OutputFormat::kScaledFp16, OutputFormat::kDequantizedFp16}) {
    EXPECT_TRUE(Config({k4Bit, output}, Linears({"a"}), {"b"}).IsNull());
  }
}

// Some engines ask by the name of what they fuse, others by those of its parts.
TEST(QuantizationConfigJsonTest, AwqNamesKeptLinearsAlsoAsEnginesFuseThem) {
  const JsonValue config =
      Config({k4Bit, OutputFormat::kAwqGemm}, Linears({"model.layers.0.mlp.down_proj"}),
             {"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj",
              "model.layers.0.self_attn.v_proj", "model.layers.0.mlp.gate_proj",
              "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"});
  EXPECT_THAT(Strings(*config.Find("modules_to_not_convert")),
              ElementsAre("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj",
                          "model.layers.0.self_attn.v_proj", "model.layers.0.self_attn.qkv_proj",
                          "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj",
                          "model.layers.0.mlp.gate_up_proj", "model.layers.1.mlp.up_proj"));
}

TEST(QuantizationConfigJsonTest, AwqHasOneFormatForAll) {
  const JsonValue config =
      Config({k4Bit, OutputFormat::kAwqGemm}, Linears({"model.layers.0.a"}), {"model.layers.0.b"});
  EXPECT_TRUE(*config.Find("zero_point")->AsBool()) << "loaders expect qzeros";
  EXPECT_THAT(Strings(*config.Find("modules_to_not_convert")), ElementsAre("model.layers.0.b"));
  std::vector<LinearFormat> linears = Linears({"a", "b"});
  linears[1].format.group_size = 64;
  const absl::Status status =
      QuantizationConfigJson({k4Bit, OutputFormat::kAwqGemm}, linears, {}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("b: bits is 4 and group_size 64; expected 4 and 128"));
}

}  // namespace
}  // namespace salient
