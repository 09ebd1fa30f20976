#include "core/checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/source_directory.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

using Fields = std::vector<std::pair<std::string, std::string>>;

const Fields& GoodFields() {
  static const auto* fields = new Fields{{"architectures", "[\"LlamaForCausalLM\"]"},
                                         {"hidden_size", "64"},
                                         {"intermediate_size", "172"},
                                         {"num_hidden_layers", "2"},
                                         {"num_attention_heads", "4"},
                                         {"vocab_size", "96"},
                                         {"rms_norm_eps", "1e-5"}};
  return *fields;
}

// A good config with some fields replaced or added; an empty value leaves the field out.
std::string Config(const Fields& changes) {
  Fields fields = GoodFields();
  for (const auto& [name, value] : changes) {
    bool known = false;
    for (auto& field : fields) {
      if (field.first != name) continue;
      field.second = value;
      known = true;
    }
    if (!known) fields.emplace_back(name, value);
  }
  std::string json = "{";
  for (const auto& [name, value] : fields) {
    if (value.empty()) continue;
    absl::StrAppend(&json, json.size() > 1 ? "," : "", "\"", name, "\":", value);
  }
  return json + "}";
}

absl::StatusOr<ModelConfig> ParseConfig(const Fields& changes) {
  return ParseModelConfig("dir/config.json", Config(changes));
}

TEST(ModelConfigTest, FieldsThatAreLeftOutHaveTheirUsualMeaning) {
  const auto config = ParseConfig({});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "LlamaForCausalLM");
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->intermediate_size, 172);
  EXPECT_EQ(config->num_hidden_layers, 2);
  EXPECT_EQ(config->num_attention_heads, 4);
  EXPECT_EQ(config->num_key_value_heads, 4);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->vocab_size, 96);
  EXPECT_EQ(config->rms_norm_eps, 1e-5);
  EXPECT_EQ(config->rope_theta, 10000);
  EXPECT_FALSE(config->llama3_rope.has_value());
  EXPECT_FALSE(config->attention_bias);
  EXPECT_FALSE(config->mlp_bias);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_FALSE(config->max_position_embeddings.has_value());
  EXPECT_FALSE(config->sliding_window.has_value());
  EXPECT_FALSE(config->dtype.has_value());
  EXPECT_FALSE(config->quantization.has_value());
}

TEST(ModelConfigTest, ReadsTheTestModel) {
  const std::string path = testing::SourceDirectory() + "/tests/data/pocket-llama/config.json";
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  const auto config = ParseModelConfig(path, text.str());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->QueryHeadsPerKvHead(), 2);
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->dtype, DType::kF16);
  EXPECT_EQ(config->max_position_embeddings, 256);
}

TEST(ModelConfigTest, BothSpellingsOfLlama3RotaryParametersMeanTheSame) {
  const std::string members =
      "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
      "\"original_max_position_embeddings\":8192";
  const Fields spellings[] = {
      {{"rope_theta", "500000.0"}, {"rope_scaling", "{\"rope_type\":\"llama3\"," + members + "}"}},
      {{"rope_theta", "500000"}, {"rope_scaling", "{\"type\":\"llama3\"," + members + "}"}},
      {{"rope_parameters", "{\"rope_theta\":500000.0,\"rope_type\":\"llama3\"," + members + "}"}}};
  for (const Fields& fields : spellings) {
    const auto config = ParseConfig(fields);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->rope_theta, 500000);
    ASSERT_TRUE(config->llama3_rope.has_value());
    EXPECT_EQ(config->llama3_rope->factor, 8);
    EXPECT_EQ(config->llama3_rope->low_freq_factor, 1);
    EXPECT_EQ(config->llama3_rope->high_freq_factor, 4);
    EXPECT_EQ(config->llama3_rope->original_max_position_embeddings, 8192);
  }
}

TEST(ModelConfigTest, PlainRotaryParametersAreNoScaling) {
  const Fields spellings[] = {
      {{"rope_theta", "1e6"}, {"rope_scaling", "null"}},
      {{"rope_theta", "1e6"}, {"rope_scaling", "{\"rope_type\":\"default\"}"}},
      {{"rope_parameters", "{\"rope_type\":\"default\",\"rope_theta\":1000000.0}"}},
      {{"rope_theta", "1e6"}, {"rope_parameters", "{\"rope_theta\":1000000.0}"}}};
  for (const Fields& fields : spellings) {
    const auto config = ParseConfig(fields);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->rope_theta, 1e6);
    EXPECT_FALSE(config->llama3_rope.has_value());
  }
}

TEST(ModelConfigTest, ASlidingWindowCountsUnlessItIsSwitchedOff) {
  EXPECT_EQ(ParseConfig({{"sliding_window", "4096"}})->sliding_window, 4096);
  EXPECT_FALSE(ParseConfig({{"sliding_window", "null"}})->sliding_window.has_value());
  EXPECT_FALSE(ParseConfig({{"sliding_window", "4096"}, {"use_sliding_window", "false"}})
                   ->sliding_window.has_value());
  EXPECT_FALSE(ParseConfig({{"sliding_window", "4096"},
                            {"layer_types", "[\"full_attention\",\"full_attention\"]"}})
                   ->sliding_window.has_value());
}

TEST(ModelConfigTest, ReadsSwitchesAndNames) {
  const auto config =
      ParseConfig({{"num_key_value_heads", "2"},
                   {"head_dim", "24"},
                   {"attention_bias", "true"},
                   {"mlp_bias", "true"},
                   {"tie_word_embeddings", "true"},
                   {"dtype", "\"bfloat16\""},
                   {"hidden_act", "\"silu\""},
                   {"quantization_config", "{\"quant_method\":\"awq\",\"bits\":4}"}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_key_value_heads, 2);
  EXPECT_EQ(config->head_dim, 24);
  EXPECT_TRUE(config->attention_bias && config->mlp_bias && config->tie_word_embeddings);
  EXPECT_EQ(config->dtype, DType::kBF16);
  EXPECT_EQ(config->quantization->quant_method, "awq");
  EXPECT_EQ(ParseConfig({{"torch_dtype", "\"float32\""}})->dtype, DType::kF32);
  // Without a multiple, head_dim must be said.
  EXPECT_TRUE(ParseConfig({{"num_attention_heads", "5"}, {"head_dim", "12"}}).ok());
}

TEST(ModelConfigTest, ReadsWhatAwqSaysInBothSpellings) {
  for (const char* json :
       {R"({"quant_method":"awq","bits":4,"group_size":64,"zero_point":false,"version":"GEMM"})",
        R"({"quant_method":"awq","w_bit":4,"q_group_size":64,"zero_point":false,"version":"gemm"})",
        R"({"quant_method":"awq","bits":4,"w_bit":4,"group_size":64,"zero_point":false,
            "version":"Gemm","modules_to_not_convert":null,"unknown":{"a":1}})"}) {
    const auto config = ParseConfig({{"quantization_config", json}});
    ASSERT_TRUE(config.ok()) << config.status();
    ASSERT_TRUE(config->quantization.has_value());
    EXPECT_EQ(config->quantization->quant_method, "awq");
    EXPECT_EQ(config->quantization->bits, 4);
    EXPECT_EQ(config->quantization->group_size, 64);
    EXPECT_FALSE(config->quantization->zero_point);
    EXPECT_EQ(config->quantization->version, "gemm");
  }
  const auto silent =
      ParseConfig({{"quantization_config", R"({"quant_method":"awq","group_size":-1})"}});
  ASSERT_TRUE(silent.ok()) << silent.status();
  EXPECT_EQ(silent->quantization->bits, 0);
  EXPECT_EQ(silent->quantization->group_size, -1);
  EXPECT_TRUE(silent->quantization->zero_point);
  EXPECT_EQ(silent->quantization->version, "");
  // Of other methods only the name is read: their fields mean other things.
  const auto other = ParseConfig(
      {{"quantization_config", R"({"quant_method":"exl2","bits":4.25,"group_size":null})"}});
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->quantization->quant_method, "exl2");
  EXPECT_EQ(other->quantization->bits, 0);
}

TEST(ModelConfigTest, FaultsInWhatAwqSaysNameTheField) {
  const std::pair<const char*, const char*> faults[] = {
      {R"({"quant_method":"awq","bits":4.0})", "quantization_config.bits is 4.0"},
      {R"({"quant_method":"awq","w_bit":"4"})", "quantization_config.w_bit is \"4\"; expected an"},
      {R"({"quant_method":"awq","bits":4,"w_bit":8})",
       "quantization_config.w_bit is 8; expected what bits says, 4"},
      {R"({"quant_method":"awq","group_size":-2})",
       "quantization_config.group_size is -2; expected an integer from -1"},
      {R"({"quant_method":"awq","zero_point":1})", "quantization_config.zero_point is 1; expected"},
      {R"({"quant_method":"awq","version":7})", "quantization_config.version is 7; expected a str"},
  };
  for (const auto& [json, error] : faults) {
    const absl::Status status = ParseConfig({{"quantization_config", json}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_THAT(std::string(status.message()), HasSubstr(error));
    EXPECT_THAT(std::string(status.message()), HasSubstr("dir/config.json: "));
  }
}

struct ConfigFault {
  Fields fields;
  const char* error;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

TEST(ModelConfigTest, EveryFaultNamesFieldValueAndExpectation) {
  constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
  const std::string llama3 =
      "\"rope_type\":\"llama3\",\"low_freq_factor\":1.0,"
      "\"original_max_position_embeddings\":8192";
  const ConfigFault faults[] = {
      // Missing and null.
      {{{"architectures", ""}}, "architectures is missing or null; expected a list of one"},
      {{{"hidden_size", ""}}, "hidden_size is missing; expected an integer from 1"},
      {{{"hidden_size", "null"}}, "hidden_size is null; expected an integer"},
      {{{"intermediate_size", ""}}, "intermediate_size is missing"},
      {{{"num_hidden_layers", ""}}, "num_hidden_layers is missing"},
      {{{"num_attention_heads", ""}}, "num_attention_heads is missing"},
      {{{"vocab_size", ""}}, "vocab_size is missing"},
      {{{"rms_norm_eps", ""}}, "rms_norm_eps is missing; expected a number"},
      // Wrong type.
      {{{"architectures", "\"LlamaForCausalLM\""}}, "architectures is \"LlamaForCausalLM\""},
      {{{"architectures", "[]"}}, "architectures is an array of 0"},
      {{{"architectures", "[\"A\",\"B\"]"}}, "architectures is an array of 2"},
      {{{"architectures", "[7]"}}, "architectures[0] is 7"},
      {{{"hidden_size", "\"64\""}}, "hidden_size is \"64\"; expected an integer from 1 to"},
      {{{"hidden_size", "64.0"}}, "hidden_size is 64.0"},
      {{{"hidden_size", "true"}}, "hidden_size is true"},
      {{{"num_key_value_heads", "[2]"}}, "num_key_value_heads is an array of 1"},
      {{{"rms_norm_eps", "\"1e-5\""}}, "rms_norm_eps is \"1e-5\"; expected a number"},
      {{{"attention_bias", "1"}}, "attention_bias is 1; expected true or false"},
      {{{"mlp_bias", "\"no\""}}, "mlp_bias is \"no\"; expected true or false"},
      {{{"tie_word_embeddings", "0"}}, "tie_word_embeddings is 0"},
      {{{"hidden_act", "3"}}, "hidden_act is 3; expected a string"},
      {{{"rope_theta", "\"10000\""}}, "rope_theta is \"10000\"; expected a number"},
      {{{"rope_scaling", "8"}}, "rope_scaling is 8; expected an object"},
      {{{"sliding_window", "\"all\""}}, "sliding_window is \"all\""},
      {{{"use_sliding_window", "1"}}, "use_sliding_window is 1"},
      {{{"layer_types", "\"full_attention\""}},
       "layer_types is \"full_attention\"; expected a list"},
      {{{"torch_dtype", "16"}}, "torch_dtype is 16"},
      {{{"quantization_config", "{}"}}, "quantization_config.quant_method is missing"},
      {{{"quantization_config", "{\"quant_method\":4}"}}, "quantization_config.quant_method is 4"},
      // Absurd.
      {{{"hidden_size", "0"}}, "hidden_size is 0; expected"},
      {{{"hidden_size", "-64"}}, "hidden_size is -64"},
      {{{"hidden_size", "9223372036854775807"}}, "hidden_size is 9223372036854775807"},
      {{{"hidden_size", "18446744073709551616"}}, "hidden_size is 1.84467440737096e+19"},
      {{{"intermediate_size", "1e9"}}, "intermediate_size is 1"},
      {{{"num_hidden_layers", "5000"}},
       "num_hidden_layers is 5000; expected an integer from 1 to 4096"},
      {{{"num_attention_heads", "0"}}, "num_attention_heads is 0"},
      {{{"num_key_value_heads", "0"}}, "num_key_value_heads is 0"},
      {{{"vocab_size", "16777217"}}, "vocab_size is 16777217"},
      {{{"rms_norm_eps", "0"}}, "rms_norm_eps is 0"},
      {{{"rms_norm_eps", "2.5"}}, "rms_norm_eps is 2.5"},
      {{{"rope_theta", "0.5"}}, "rope_theta is 0.5"},
      {{{"max_position_embeddings", "0"}}, "max_position_embeddings is 0"},
      {{{"sliding_window", "0"}}, "sliding_window is 0"},
      // Two that contradict each other.
      {{{"num_key_value_heads", "3"}},
       "num_key_value_heads is 3; expected a divisor of num_attention_heads, 4"},
      {{{"num_key_value_heads", "8"}}, "num_key_value_heads is 8"},
      {{{"num_attention_heads", "5"}},
       "hidden_size is 64; expected a multiple of num_attention_heads, 5"},
      {{{"head_dim", "15"}}, "head_dim is 15; expected an even number"},
      {{{"hidden_size", "60"}}, "head_dim is 15; expected an even number"},
      {{{"head_dim", "4096"}, {"num_attention_heads", "4096"}},
       "head_dim is 4096; expected at most 256"},
      {{{"torch_dtype", "\"float16\""}, {"dtype", "\"bfloat16\""}},
       "dtype is \"bfloat16\"; expected what torch_dtype says, \"float16\""},
      {{{"rope_theta", "1e4"}, {"rope_parameters", "{\"rope_theta\":500000.0}"}},
       "expected what rope_parameters.rope_theta says, 500000"},
      {{{"rope_scaling", "{\"rope_type\":\"default\"}"},
        {"rope_parameters", "{\"rope_theta\":1e4}"}},
       "expected nothing beside rope_parameters"},
      {{{"rope_scaling", "{\"type\":\"default\",\"rope_type\":\"llama3\"}"}},
       "rope_scaling.type is \"default\"; expected what rope_type says, \"llama3\""},
      // Rotary embeddings.
      {{{"rope_scaling", "{" + llama3 + ",\"high_freq_factor\":4.0}"}},
       "rope_scaling.factor is missing; expected a number from 1"},
      {{{"rope_parameters", "{" + llama3 + ",\"high_freq_factor\":4.0,\"factor\":0.5}"}},
       "rope_parameters.factor is 0.5"},
      {{{"rope_scaling", "{" + llama3 + ",\"high_freq_factor\":1.0,\"factor\":8.0}"}},
       "rope_scaling.high_freq_factor is 1; expected more than low_freq_factor, 1"},
      {{{"rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4.0}"}},
       "rope_scaling.rope_type is \"yarn\"; expected \"default\" or \"llama3\"",
       kUnimplemented},
      {{{"rope_scaling", "{\"type\":\"linear\",\"factor\":4.0}"}},
       "rope_scaling.rope_type is \"linear\"",
       kUnimplemented},
      {{{"rope_parameters", "{\"full_attention\":{\"rope_theta\":1e4}}"}},
       "rope_parameters[\"full_attention\"] is an object",
       kUnimplemented},
      {{{"partial_rotary_factor", "0.5"}},
       "partial_rotary_factor is 0.5; expected 1",
       kUnimplemented},
      // What exists, but not here.
      {{{"hidden_act", "\"gelu\""}}, "hidden_act is \"gelu\"; expected \"silu\"", kUnimplemented},
      {{{"use_sliding_window", "true"}}, "use_sliding_window is true", kUnimplemented},
      {{{"layer_types", "[\"full_attention\",\"sliding_attention\"]"}},
       "layer_types[1] is \"sliding_attention\"",
       kUnimplemented},
      {{{"torch_dtype", "\"float8_e4m3fn\""}},
       "torch_dtype is \"float8_e4m3fn\"; expected",
       kUnimplemented},
  };
  for (const ConfigFault& fault : faults) {
    const auto config = ParseConfig(fault.fields);
    ASSERT_FALSE(config.ok()) << fault.error;
    EXPECT_EQ(config.status().code(), fault.code) << config.status();
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(fault.error));
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("dir/config.json: "));
  }
}

TEST(ModelConfigTest, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[]", "7", "{\"hidden_size\":", "{\"a\":1,\"a\":2}"}) {
    const auto config = ParseModelConfig("dir/config.json", text);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("dir/config.json")) << text;
  }
}

}  // namespace
}  // namespace salient
