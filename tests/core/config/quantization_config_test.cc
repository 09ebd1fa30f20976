// Reads the quantization_config that the real tools write, and what goes wrong in one.
#include "core/config/quantization_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/group/linear.h"
#include "core/tensor/affine_groups.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<QuantizationConfig> ParseQuantization(const std::string& json) {
  const auto object = ParseJson("test", json);
  if (!object.ok()) return object.status();
  return ParseQuantizationConfig("dir/config.json", *object);
}

QuantizationConfig Good(const std::string& json) {
  const auto config = ParseQuantization(json);
  EXPECT_TRUE(config.ok()) << config.status() << "\n" << json;
  if (!config.ok()) return {};
  EXPECT_TRUE(config->readable.ok()) << config->readable << "\n" << json;
  return *config;
}

// Returns why a file cannot be read, which is no fault of the file.
std::string Unreadable(const std::string& json) {
  const auto config = ParseQuantization(json);
  EXPECT_TRUE(config.ok()) << config.status() << "\n" << json;
  if (!config.ok()) return "";
  EXPECT_EQ(config->readable.code(), absl::StatusCode::kUnimplemented) << json;
  EXPECT_THAT(std::string(config->readable.message()), StartsWith("dir/config.json: "));
  return std::string(config->readable.message());
}

std::string QuantizationFault(const std::string& json) {
  const absl::Status status = ParseQuantization(json).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
  EXPECT_THAT(std::string(status.message()), StartsWith("dir/config.json: "));
  return std::string(status.message());
}

constexpr char kQuery[] = "model.layers.0.self_attn.q_proj";

TEST(QuantizationConfigTest, ReadsWhatGptqModelWrites) {
  const QuantizationConfig config = Good(R"({
    "bits": 4, "checkpoint_format": "gptq", "desc_act": false, "format": "gptq",
    "group_size": 128, "lm_head": false,
    "meta": {"damp_percent": 0.05, "fallback": {"smooth": null}, "quantizer": ["gptqmodel:7.7.0"]},
    "method": "gptq", "pack_dtype": "int32", "quant_method": "gptq", "sym": true})");
  EXPECT_EQ(config.quant_method, "gptq");
  EXPECT_EQ(config.bits, 4);
  EXPECT_EQ(config.group_size, 128);
  EXPECT_FALSE(config.zero_point);
  EXPECT_EQ(config.format, "gptq");
  EXPECT_FALSE(config.desc_act);
  const auto stored = config.FormatOf(kQuery);
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ(stored->output, OutputFormat::kGptq);
  EXPECT_EQ(stored->format.bits, 4);
  EXPECT_EQ(stored->format.group_size, 128);
  EXPECT_TRUE(stored->format.symmetric);
  EXPECT_EQ(stored->activations, ActivationFormat::kNone);
}

TEST(QuantizationConfigTest, ReadsTheOtherGptqs) {
  const QuantizationConfig v2 = Good(
      R"({"quant_method":"gptq","bits":8,"group_size":-1,"sym":false,"desc_act":true,
          "checkpoint_format":"gptq_v2"})");
  EXPECT_TRUE(v2.zero_point);
  EXPECT_TRUE(v2.desc_act);
  EXPECT_EQ(v2.FormatOf(kQuery)->output, OutputFormat::kGptqV2);
  EXPECT_EQ(v2.FormatOf(kQuery)->format.bits, 8);
  EXPECT_EQ(v2.FormatOf(kQuery)->format.group_size, kWholeRow);
  EXPECT_FALSE(v2.FormatOf(kQuery)->format.symmetric);
  // Old tools leave it out.
  const QuantizationConfig old = Good(R"({"quant_method":"gptq","bits":3})");
  EXPECT_EQ(old.FormatOf(kQuery)->output, OutputFormat::kGptq);
  EXPECT_EQ(old.group_size, 0);
  EXPECT_TRUE(old.FormatOf(kQuery)->format.symmetric);
}

TEST(QuantizationConfigTest, TheFirstDynamicRuleThatMatchesCounts) {
  const QuantizationConfig config = Good(
      R"({"quant_method":"gptq","bits":4,"group_size":128,"sym":true,"dynamic":{
          "-:^model\\.layers\\.0\\.mlp\\.": {},
          "+:.*\\.down_proj": {"bits":8,"group_size":32,"desc_act":true},
          ".*\\.mlp\\.": {"sym":false}}})");
  EXPECT_FALSE(config.FormatOf("model.layers.0.mlp.down_proj").has_value());
  const auto down = config.FormatOf("model.layers.1.mlp.down_proj");
  EXPECT_EQ(down->format.bits, 8);
  EXPECT_EQ(down->format.group_size, 32);
  EXPECT_TRUE(down->format.symmetric);
  const auto up = config.FormatOf("model.layers.1.mlp.up_proj");
  EXPECT_EQ(up->format.bits, 4);
  EXPECT_FALSE(up->format.symmetric);
  EXPECT_EQ(config.FormatOf(kQuery)->format.bits, 4);
  EXPECT_EQ(config.FormatOf(kQuery)->format.group_size, 128);
}

TEST(QuantizationConfigTest, WhatGptqCannotBeReadInIsNamed) {
  const auto with = [](const std::string& field) {
    return R"({"quant_method":"gptq","bits":4,"group_size":128,)" + field + "}";
  };
  EXPECT_THAT(Unreadable(R"({"quant_method":"gptq","bits":2,"group_size":64})"),
              HasSubstr("quantization_config.bits is 2; expected 3, 4 or 8"));
  EXPECT_THAT(Unreadable(with(R"("checkpoint_format":"marlin")")),
              HasSubstr("checkpoint_format is \"marlin\"; expected \"gptq\" or \"gptq_v2\""));
  EXPECT_THAT(Unreadable(with(R"("is_marlin_format":true)")), HasSubstr("is_marlin_format"));
  EXPECT_THAT(Unreadable(with(R"("pack_dtype":"int16")")), HasSubstr("pack_dtype is \"int16\""));
  EXPECT_THAT(Unreadable(with(R"x("dynamic":{"(?!x).*":{}})x")), HasSubstr("(?!x).*"));
  EXPECT_THAT(Unreadable(with(R"("dynamic":{"x":{"bits":5}})")),
              HasSubstr("dynamic[\"x\"].bits is 5; expected 3, 4 or 8"));
  EXPECT_THAT(QuantizationFault(R"({"quant_method":"gptq","group_size":128})"),
              HasSubstr("quantization_config.bits is missing"));
  EXPECT_THAT(QuantizationFault(with(R"("sym":1)")), HasSubstr("sym is 1; expected true or false"));
  EXPECT_THAT(QuantizationFault(with(R"("dynamic":[])")), HasSubstr("dynamic is an array of 0"));
  EXPECT_THAT(QuantizationFault(with(R"("dynamic":{"x":3})")), HasSubstr("dynamic[\"x\"] is 3"));
  EXPECT_THAT(QuantizationFault(with(R"("dynamic":{"x":{"bits":"4"}})")),
              HasSubstr("dynamic[\"x\"].bits is"));
  EXPECT_THAT(QuantizationFault(with(R"("dynamic":{"-:(x":{}})")),
              HasSubstr("is \"-:(x\"; expected a regular expression, found missing ): (x"));
}

// Writes it as llm-compressor writes it, with one part replaced.
std::string Compressed(const std::string& what = "", const std::string& by = "") {
  const std::string good = R"({
    "config_groups": {"group_0": {
      "format": "pack-quantized", "input_activations": null, "output_activations": null,
      "targets": ["Linear"],
      "weights": {"actorder": null, "block_structure": null, "dynamic": false, "group_size": 128,
        "num_bits": 4, "observer": "memoryless_minmax", "observer_kwargs": {}, "scale_dtype": null,
        "strategy": "group", "symmetric": false, "type": "int", "zp_dtype": "torch.int8"}}},
    "format": "pack-quantized", "global_compression_ratio": null, "ignore": ["lm_head"],
    "kv_cache_scheme": null, "quant_method": "compressed-tensors",
    "quantization_status": "compressed", "sparsity_config": {}, "transform_config": {},
    "version": "0.19.0"})";
  if (what.empty()) return good;
  EXPECT_THAT(good, HasSubstr(what));
  return absl::StrReplaceAll(good, {{what, by}});
}

// Writes the same of W8A8; `input` is its input_activations.
std::string IntQuantized(const std::string& input) {
  return R"({"quant_method":"compressed-tensors","format":"int-quantized","ignore":["lm_head"],
    "config_groups":{"group_0":{"targets":["Linear"],"weights":{"num_bits":8,"type":"int",
      "symmetric":true,"strategy":"channel","group_size":null,"dynamic":false},
      "input_activations":)" +
         input + "}}}";
}

TEST(QuantizationConfigTest, ReadsWhatLlmCompressorWrites) {
  const QuantizationConfig config = Good(Compressed());
  EXPECT_EQ(config.bits, 4);
  EXPECT_EQ(config.group_size, 128);
  EXPECT_TRUE(config.zero_point);
  EXPECT_EQ(config.format, "pack-quantized");
  const auto stored = config.FormatOf(kQuery);
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ(stored->output, OutputFormat::kCompressedTensors);
  EXPECT_EQ(stored->format.bits, 4);
  EXPECT_EQ(stored->format.group_size, 128);
  EXPECT_FALSE(stored->format.symmetric);
  EXPECT_FALSE(config.FormatOf("lm_head").has_value());

  const QuantizationConfig w8a8 = Good(IntQuantized(
      R"({"num_bits":8,"type":"int","symmetric":true,"strategy":"token","dynamic":true})"));
  EXPECT_EQ(w8a8.bits, 8);
  EXPECT_EQ(w8a8.group_size, kWholeRow);
  EXPECT_FALSE(w8a8.zero_point);
  EXPECT_EQ(w8a8.activations, ActivationFormat::kDynamicToken);
  EXPECT_EQ(w8a8.FormatOf(kQuery)->output, OutputFormat::kIntQuantized);
  EXPECT_EQ(w8a8.FormatOf(kQuery)->activations, ActivationFormat::kDynamicToken);
  EXPECT_EQ(Good(IntQuantized(R"({"strategy":"tensor","dynamic":false})")).activations,
            ActivationFormat::kStaticTensor);
  EXPECT_EQ(Good(IntQuantized("null")).activations, ActivationFormat::kNone);
}

TEST(QuantizationConfigTest, WhatToolsLeaveOutOrWriteOtherwiseMeansTheSame) {
  // Group -1 comes without a strategy; width and kind are as they are by default.
  const QuantizationConfig channel = Good(
      R"({"quant_method":"compressed-tensors","format":"naive-quantized","config_groups":{
          "a":{"targets":["Linear"],"weights":{"group_size":-1}}}})");
  EXPECT_EQ(channel.bits, 8);
  EXPECT_EQ(channel.group_size, kWholeRow);
  EXPECT_FALSE(channel.zero_point);
  const QuantizationConfig tensor = Good(
      R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{
          "a":{"targets":["Linear"],"weights":{}}}})");
  EXPECT_EQ(tensor.group_size, kWholeTensor);
  // Nothing that changes what is computed, though it is there.
  Good(Compressed(R"("sparsity_config": {})",
                  R"("sparsity_config": {"format":"dense","ignore":[],"global_sparsity":0.1})"));
  Good(Compressed(R"("transform_config": {})", R"("transform_config": {"config_groups":{}})"));
  // Each group its own format.
  const QuantizationConfig mixed = Good(Compressed("\"format\": \"pack-quantized\", \"global",
                                                   "\"format\": \"mixed-precision\", \"global"));
  EXPECT_EQ(mixed.FormatOf(kQuery)->output, OutputFormat::kCompressedTensors);
}

TEST(QuantizationConfigTest, NamesWinOverPatternsAndPatternsOverTheClass) {
  const auto group = [](const char* targets, int bits, int size) {
    return absl::StrCat("{\"targets\":[", targets, "],\"weights\":{\"num_bits\":", bits,
                        ",\"group_size\":", size, "}}");
  };
  const QuantizationConfig config = Good(absl::StrCat(
      R"({"quant_method":"compressed-tensors","format":"pack-quantized",
          "ignore":["re:.*layers\\.3\\.","model.layers.2.mlp.up_proj"],"config_groups":{"all":)",
      group(R"("Linear")", 4, 128), ",\"some\":", group(R"("re:.*\\.mlp\\.","re:x")", 8, 64),
      ",\"one\":", group(R"("model.layers.1.mlp.up_proj")", 8, 32), "}}"));
  const auto size = [&](const char* module) {
    const auto stored = config.FormatOf(module);
    return stored.has_value() ? stored->format.group_size : 0;
  };
  EXPECT_EQ(size(kQuery), 128);
  EXPECT_EQ(size("model.layers.1.mlp.down_proj"), 64);
  EXPECT_EQ(size("model.layers.1.mlp.up_proj"), 32);
  EXPECT_EQ(size("model.layers.2.mlp.up_proj"), 0);
  EXPECT_EQ(size("model.layers.3.mlp.up_proj"), 0);
  // There is no group and no format.
  const QuantizationConfig few = Good(absl::StrCat(
      R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"a":)",
      group(R"("re:.*mlp")", 4, 128), "}}"));
  EXPECT_FALSE(few.FormatOf(kQuery).has_value());
}

TEST(QuantizationConfigTest, WhatCompressedTensorsCannotBeReadInIsNamed) {
  const std::string weights = "quantization_config.config_groups[\"group_0\"].weights.";
  EXPECT_THAT(Unreadable(Compressed(R"("num_bits": 4)", R"("num_bits": 3)")),
              HasSubstr(weights + "num_bits is 3; expected 4 or 8 with pack-quantized"));
  EXPECT_THAT(Unreadable(Compressed(R"("type": "int")", R"("type": "float")")),
              HasSubstr(weights + "type is \"float\"; expected \"int\""));
  EXPECT_THAT(Unreadable(Compressed(R"("strategy": "group")", R"("strategy": "block")")),
              HasSubstr(weights + "strategy is \"block\"; expected \"group\", \"channel\""));
  EXPECT_THAT(Unreadable(Compressed(R"("strategy": "group")", R"("strategy": "tensor")")),
              HasSubstr("strategy is \"tensor\"; expected \"group\" or \"channel\""));
  EXPECT_THAT(Unreadable(Compressed(R"("dynamic": false)", R"("dynamic": "local")")),
              HasSubstr(weights + "dynamic is \"local\""));
  EXPECT_THAT(Unreadable(Compressed(R"("dynamic": false)", R"("dynamic": true)")),
              HasSubstr(weights + "dynamic is true; expected false"));
  EXPECT_THAT(Unreadable(Compressed(R"("format": "pack-quantized", "input)",
                                    R"("format": "marlin-24", "input)")),
              HasSubstr("[\"group_0\"].format is \"marlin-24\"; expected \"pack-quantized\""));
  EXPECT_THAT(
      Unreadable(Compressed(R"("kv_cache_scheme": null)", R"("kv_cache_scheme": {"num_bits": 8})")),
      HasSubstr("kv_cache_scheme is an object of 1; expected null: it quantizes the cache of keys "
                "and values, which is not read"));
  EXPECT_THAT(Unreadable(Compressed(R"("sparsity_config": {})",
                                    R"("sparsity_config": {"format": "sparse-bitmask"})")),
              HasSubstr("sparsity_config is an object"));
  EXPECT_THAT(Unreadable(Compressed(R"("transform_config": {})",
                                    R"("transform_config": {"config_groups": {"R1": {}}})")),
              HasSubstr("transform_config"));
  EXPECT_THAT(Unreadable(Compressed(R"("output_activations": null)",
                                    R"("output_activations": {"num_bits": 8})")),
              HasSubstr("[\"group_0\"].output_activations is an object"));
  EXPECT_THAT(
      Unreadable(Compressed(R"(["Linear"])", R"x(["re:(?!a)"])x")),
      HasSubstr("targets[0] is \"re:(?!a)\"; expected a regular expression without look-ahead at "
                "byte 0"));
  const std::string input = "input_activations.";
  EXPECT_THAT(Unreadable(IntQuantized(R"({"num_bits":4,"strategy":"token","dynamic":true})")),
              HasSubstr(input + "num_bits is 4; expected 8"));
  EXPECT_THAT(Unreadable(IntQuantized(R"({"strategy":"token"})")),
              HasSubstr(input + "strategy is \"token\"; expected \"tensor\" with dynamic false"));
  EXPECT_THAT(Unreadable(IntQuantized(R"({"strategy":"tensor","dynamic":true})")),
              HasSubstr(input + "strategy is \"tensor\"; expected \"token\" with dynamic true"));
  EXPECT_THAT(Unreadable(IntQuantized(R"({"symmetric":false,"strategy":"token","dynamic":true})")),
              HasSubstr(input + "symmetric is false; expected true"));
  EXPECT_THAT(Unreadable(IntQuantized(R"({"type":"float","strategy":"token","dynamic":true})")),
              HasSubstr(input + "type is \"float\""));
  const std::string int_weights =
      R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{"a":{
          "targets":["Linear"],"weights":)";
  EXPECT_THAT(Unreadable(int_weights + R"({"symmetric":false}}}})"),
              HasSubstr("symmetric is false; expected true with int-quantized"));
  EXPECT_THAT(Unreadable(int_weights + R"({"group_size":64}}}})"),
              HasSubstr("strategy is \"group\"; expected \"channel\" or \"tensor\""));
  EXPECT_THAT(Unreadable(int_weights + "null}}}"), HasSubstr("weights is missing or null"));
}

TEST(QuantizationConfigTest, FaultsOfCompressedTensorsAreNamed) {
  const std::string method = R"({"quant_method":"compressed-tensors","format":"pack-quantized",)";
  EXPECT_THAT(QuantizationFault(method + R"("ignore":[]})"), HasSubstr("config_groups is missing"));
  EXPECT_THAT(QuantizationFault(method + R"("config_groups":{}})"),
              HasSubstr("config_groups is an object"));
  EXPECT_THAT(QuantizationFault(method + R"("config_groups":{"W8A8":["Linear"]}})"),
              HasSubstr("config_groups[\"W8A8\"] is an array of 1; expected an object"));
  const std::string group = R"("config_groups":{"a":{"targets":["Linear"],)";
  EXPECT_THAT(QuantizationFault(method + group + R"("weights":"int4"}}})"),
              HasSubstr("config_groups[\"a\"].weights is \"int4\"; expected an object"));
  EXPECT_THAT(
      QuantizationFault(method + group + R"("weights":{"num_bits":4},"input_activations":[8]}}})"),
      HasSubstr("config_groups[\"a\"].input_activations is an array of 1; expected an"));
  EXPECT_THAT(QuantizationFault(Compressed(R"("num_bits": 4)", R"("num_bits": "4")")),
              HasSubstr("weights.num_bits is \"4\"; expected an integer"));
  EXPECT_THAT(QuantizationFault(Compressed(R"("group_size": 128)", R"("group_size": null)")),
              HasSubstr("weights.group_size is null; expected an integer from 1"));
  EXPECT_THAT(QuantizationFault(Compressed(R"("group_size": 128)", R"("group_size": -7)")),
              HasSubstr("weights.group_size is -7"));
  EXPECT_THAT(QuantizationFault(Compressed(R"("symmetric": false)", R"("symmetric": "no")")),
              HasSubstr("weights.symmetric is \"no\""));
  EXPECT_THAT(QuantizationFault(Compressed(R"(["Linear"])", R"("Linear")")),
              HasSubstr("targets is \"Linear\"; expected a list"));
  EXPECT_THAT(QuantizationFault(Compressed(R"(["lm_head"])", R"([null])")),
              HasSubstr("ignore[0] is null; expected a string"));
  EXPECT_THAT(
      QuantizationFault(Compressed(R"(["lm_head"])", R"x(["re:a)"])x")),
      HasSubstr("ignore[0] is \"re:a)\"; expected a regular expression, found unexpected ): a)"));
  std::string many = "[\"re:x{1000}\"";
  for (int i = 0; i < 20; ++i) many += ",\"re:x{1000}\"";
  EXPECT_THAT(QuantizationFault(Compressed(R"(["lm_head"])", many + "]")),
              HasSubstr("more than 16384 steps"));
  EXPECT_THAT(QuantizationFault(R"({"bits":4})"), HasSubstr("quant_method is missing"));
  EXPECT_THAT(QuantizationFault(R"({"quant_method":""})"), HasSubstr("quant_method is \"\""));
}

// A writer that mixes widths spells out every Linear.
TEST(QuantizationConfigTest, AsManyPathsAsAModelHasAreRead) {
  std::string targets;
  for (int layer = 0; layer < 80; ++layer) {
    for (const char* linear : {"self_attn\\\\.q_proj", "mlp\\\\.gate_proj", "mlp\\\\.down_proj"}) {
      absl::StrAppend(&targets, targets.empty() ? "" : ",", "\"re:^model\\\\.layers\\\\.", layer,
                      "\\\\.", linear, "$\"");
    }
  }
  const QuantizationConfig config = Good(Compressed(R"(["Linear"])", "[" + targets + "]"));
  EXPECT_TRUE(config.FormatOf("model.layers.79.mlp.down_proj").has_value());
  EXPECT_FALSE(config.FormatOf("model.layers.79.mlp.up_proj").has_value());
  EXPECT_FALSE(config.FormatOf("model.layers.80.mlp.down_proj").has_value());
  EXPECT_FALSE(config.FormatOf("model.layers.79.mlp.down_proj.x").has_value());
}

TEST(QuantizationConfigTest, RulesThatAreTooLargeTogetherAreRefused) {
  std::string rules;
  for (int i = 0; i < 20; ++i) {
    absl::StrAppend(&rules, i == 0 ? "" : ",", "\"x{1000}", i, "\":{}");
  }
  EXPECT_THAT(QuantizationFault(
                  R"({"quant_method":"gptq","bits":4,"group_size":128,"sym":true,"dynamic":{)" +
                  rules + "}}"),
              HasSubstr("dynamic is too large at \"x{1000}"));
}

TEST(QuantizationConfigTest, OtherMethodsGoByTheirName) {
  EXPECT_THAT(Unreadable(R"({"quant_method":"exl2","bits":4.25,"group_size":null})"),
              HasSubstr("quant_method is \"exl2\"; expected \"awq\", \"gptq\" or \"compressed-"));
  EXPECT_THAT(Unreadable(R"({"quant_method":"awq","version":"gemv"})"),
              HasSubstr("version is \"gemv\"; expected \"gemm\""));
  EXPECT_THAT(Unreadable(R"({"quant_method":"awq","bits":8})"), HasSubstr("bits is 8; expected 4"));
}

}  // namespace
}  // namespace salient
