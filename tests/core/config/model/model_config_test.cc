#include "core/config/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/families/family.h"
#include "tests/support/source_directory.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

using Fields = std::vector<std::pair<std::string, std::string>>;

const Fields& GoodFields() {
  static const auto* fields = new Fields{{"architectures", "[\"LlamaForCausalLM\"]"},
                                         {"model_type", "\"llama\""},
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
  EXPECT_EQ(config->rope.theta, 10000);
  EXPECT_FALSE(config->rope.llama3.has_value());
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
    EXPECT_EQ(config->rope.theta, 500000);
    ASSERT_TRUE(config->rope.llama3.has_value());
    EXPECT_EQ(config->rope.llama3->factor, 8);
    EXPECT_EQ(config->rope.llama3->low_freq_factor, 1);
    EXPECT_EQ(config->rope.llama3->high_freq_factor, 4);
    EXPECT_EQ(config->rope.llama3->original_max_position_embeddings, 8192);
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
    EXPECT_EQ(config->rope.theta, 1e6);
    EXPECT_FALSE(config->rope.llama3.has_value());
  }
}

Fields Mistral(Fields fields) {
  fields.insert(fields.begin(), {{"architectures", "[\"MistralForCausalLM\"]"},
                                 {"model_type", "\"mistral\""},
                                 {"num_key_value_heads", "2"}});
  return fields;
}

Fields Qwen2(Fields fields) {
  fields = Mistral(std::move(fields));
  fields[0].second = "[\"Qwen2ForCausalLM\"]";
  fields[1].second = "\"qwen2\"";
  return fields;
}

// tests/core/model/config_golden_test.cc has what each family does with them.
TEST(ModelConfigTest, AWindowIsThatOfTheFamily) {
  const Fields window = {{"sliding_window", "7"}, {"use_sliding_window", "false"}};
  EXPECT_EQ(ParseConfig(window)->sliding_window, std::nullopt);
  EXPECT_EQ(ParseConfig(Mistral(window))->sliding_window, 7);
  EXPECT_EQ(ParseConfig(Mistral({}))->sliding_window, 4096);
  EXPECT_EQ(ParseConfig(Mistral({{"sliding_window", "null"}}))->sliding_window, std::nullopt);
  EXPECT_EQ(ParseConfig(Qwen2(window))->sliding_window, std::nullopt);
  const Fields used = {{"use_sliding_window", "true"}, {"max_window_layers", "0"}};
  EXPECT_EQ(ParseConfig(Qwen2(used))->sliding_window, 4096);
}

TEST(ModelConfigTest, TheArchitectureOrTheModelTypeIsEnough) {
  const auto by_type = ParseConfig({{"architectures", ""}});
  ASSERT_TRUE(by_type.ok()) << by_type.status();
  EXPECT_EQ(by_type->architecture, "LlamaForCausalLM");
  EXPECT_TRUE(by_type->refusals.empty());
  const auto by_name = ParseConfig({{"model_type", ""}});
  ASSERT_TRUE(by_name.ok()) << by_name.status();
  EXPECT_EQ(by_name->model_type, "llama");
  ASSERT_EQ(by_name->refusals.size(), 1u);
  EXPECT_EQ(by_name->refusals[0].text,
            "model_type is missing; expected \"llama\", by which transformers finds LlamaConfig");
}

// Returns a result's mended config.json for one with these changes.
std::string Mended(const Fields& changes, bool own_head = false) {
  ModelConfig config = *ParseConfig(changes);
  config.own_head = own_head;
  JsonValue document = *ParseConfigJson("dir/config.json", Config(changes));
  MendConfig(config, *document.AsObject());
  return JsonText(document);
}

TEST(ModelConfigTest, AResultSaysInTheEnginesWordsWhatTheSourceMeant) {
  EXPECT_EQ(Mended({}), JsonText(*ParseJson("x", Config({}))));
  const std::string mended =
      Mended({{"architectures", ""},
              {"model_type", "null"},
              {"architectures", "[\"LlamaForCausalLM\"]"},
              {"rms_norm_eps", "1"},
              {"use_cache", "null"},
              {"tie_word_embeddings", "true"},
              {"layer_types", R"(["full_attention","full_attention","full_attention"])"},
              {"cap", "[NaN,-Infinity]"},
              {"note", R"("\ud800")"}},
             /*own_head=*/true);
  EXPECT_THAT(mended, HasSubstr("\"model_type\": \"llama\""));
  EXPECT_THAT(mended, HasSubstr("\"rms_norm_eps\": 1.0"));
  EXPECT_THAT(mended, ::testing::Not(HasSubstr("use_cache")));
  EXPECT_THAT(mended, HasSubstr("\"tie_word_embeddings\": false"));
  EXPECT_THAT(mended, HasSubstr("[\n    \"full_attention\",\n    \"full_attention\"\n  ]"));
  EXPECT_THAT(mended, HasSubstr("[\n    NaN,\n    -Infinity\n  ]"));
  EXPECT_THAT(mended, HasSubstr(R"("note": "\ud800")"));
}

TEST(ModelConfigTest, WhatIsMendedIsTold) {
  const auto config =
      ParseConfig({{"use_cache", "null"}, {"rms_norm_eps", "1"}, {"model_type", ""}});
  ASSERT_TRUE(config.ok()) << config.status();
  std::vector<std::string> told;
  for (const ConfigRefusal& refusal : config->refusals) told.push_back(MendText(refusal));
  EXPECT_THAT(told, ::testing::ElementsAre(
                        "",
                        "rms_norm_eps is 1; expected a number with a decimal point, or "
                        "transformers' LlamaConfig refuses it: the result says 1.00000000000000",
                        "use_cache is null; expected true or false, or transformers' LlamaConfig "
                        "refuses it: the result leaves it out"));
}

TEST(ModelConfigTest, PaddingIsARowOfTheEmbeddingsOrNothing) {
  for (const char* good : {"", "null", "0", "95", "-1", "-96"}) {
    const auto config = ParseConfig({{"pad_token_id", good}});
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_TRUE(config->refusals.empty()) << good;
  }
  for (const char* bad : {"96", "-97", "18446744073709551615"}) {
    const auto config = ParseConfig({{"pad_token_id", bad}});
    ASSERT_TRUE(config.ok()) << config.status();
    ASSERT_EQ(config->refusals.size(), 1) << bad;
    EXPECT_TRUE(config->refusals[0].by_model);
    EXPECT_EQ(MendText(config->refusals[0]),
              absl::StrCat("pad_token_id is ", bad, "; expected null or ",
                           bad[0] == '-' ? "at least -96" : "less than 96",
                           ", the vocabulary's size, or "
                           "transformers' LlamaForCausalLM refuses it: the result says null"));
    EXPECT_THAT(Mended({{"pad_token_id", bad}}), HasSubstr("\"pad_token_id\": null"));
  }
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
  // Only the name is read of other methods: their fields mean other things.
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

// Returns the fields of a config of another family.
Fields OfFamily(const std::string& architecture, const std::string& model_type, Fields fields) {
  fields.emplace_back("architectures", absl::StrCat("[\"", architecture, "\"]"));
  fields.emplace_back("model_type", absl::StrCat("\"", model_type, "\""));
  return fields;
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
      // These are missing and null.
      {{{"architectures", ""}, {"model_type", ""}},
       "architectures is missing; expected a list of one"},
      {{{"architectures", "[]"}, {"model_type", "\"gpt2\""}},
       "model_type is \"gpt2\"; expected one of those that `salient info --families` lists",
       kUnimplemented},
      {{{"architectures", "[\"GPT2LMHeadModel\"]"}},
       "architectures[0] is \"GPT2LMHeadModel\"; expected one of those that `salient info "
       "--families` lists",
       kUnimplemented},
      {{{"model_type", "\"mistral\""}},
       "model_type is \"mistral\"; expected \"llama\", which LlamaForCausalLM in architectures is"},
      {{{"hidden_size", ""}}, "hidden_size is missing; expected an integer from 1"},
      {{{"hidden_size", "null"}}, "hidden_size is null; expected an integer"},
      {{{"intermediate_size", ""}}, "intermediate_size is missing"},
      {{{"num_hidden_layers", ""}}, "num_hidden_layers is missing"},
      {{{"num_attention_heads", ""}}, "num_attention_heads is missing"},
      {{{"vocab_size", ""}}, "vocab_size is missing"},
      // These have the wrong type.
      {{{"architectures", "\"LlamaForCausalLM\""}}, "architectures is \"LlamaForCausalLM\""},
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
      {Qwen2({{"use_sliding_window", "1"}}), "use_sliding_window is 1"},
      {{{"layer_types", "\"full_attention\""}},
       "layer_types is \"full_attention\"; expected a list"},
      {{{"quantization_config", "{}"}}, "quantization_config.quant_method is missing"},
      {{{"quantization_config", "{\"quant_method\":4}"}}, "quantization_config.quant_method is 4"},
      // These are absurd.
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
      {{{"rms_norm_eps", "-1e-5"}}, "rms_norm_eps is -1"},
      {{{"rms_norm_eps", "NaN"}}, "rms_norm_eps is nan"},
      {{{"rms_norm_eps", "2.5"}}, "rms_norm_eps is 2.5"},
      {{{"rope_theta", "0.5"}}, "rope_theta is 0.5"},
      {{{"max_position_embeddings", "0"}}, "max_position_embeddings is 0"},
      {Mistral({{"sliding_window", "0"}}), "sliding_window is 0"},
      // These contradict each other.
      {{{"num_key_value_heads", "3"}},
       "num_key_value_heads is 3; expected a divisor of num_attention_heads, 4"},
      {{{"num_key_value_heads", "8"}}, "num_key_value_heads is 8"},
      {{{"num_attention_heads", "5"}},
       "hidden_size is 64; expected a multiple of num_attention_heads, 5"},
      {{{"head_dim", "15"}}, "head_dim is 15; expected an even number"},
      {{{"hidden_size", "60"}}, "head_dim is 15; expected an even number"},
      {{{"head_dim", "4096"}, {"num_attention_heads", "4096"}},
       "head_dim is 4096; expected at most 256"},
      {Qwen2({{"num_key_value_heads", ""}}),
       "num_key_value_heads is missing, which means 32 in Qwen2Config; expected a divisor of "
       "num_attention_heads, 4"},
      // These are about rotary embeddings.
      {{{"rope_scaling", "{" + llama3 + ",\"high_freq_factor\":4.0}"}},
       "rope_scaling.factor is missing; expected a number from 1"},
      {{{"rope_parameters", "{" + llama3 + ",\"high_freq_factor\":4.0,\"factor\":0.5}"}},
       "rope_parameters.factor is 0.5"},
      {{{"rope_scaling", "{" + llama3 + ",\"high_freq_factor\":1.0,\"factor\":8.0}"}},
       "rope_scaling.high_freq_factor is 1; expected more than low_freq_factor, 1"},
      {{{"rope_scaling", "{\"rope_type\":\"proportional\",\"factor\":4.0}"}},
       "rope_scaling.rope_type is \"proportional\"; expected \"default\", \"linear\", \"dynamic\", "
       "\"yarn\", \"llama3\" or \"longrope\"",
       kUnimplemented},
      {{{"rope_scaling", "{\"type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[2]}"}},
       "rope_scaling.short_factor is an array of 1; expected a list of 8 numbers above 0"},
      {{{"rope_parameters", "{\"full_attention\":{\"rope_theta\":1e4}}"}},
       "rope_parameters[\"full_attention\"] is an object",
       kUnimplemented},
      {{{"rope_theta", "1"}, {"rope_scaling", "{\"type\":\"yarn\",\"factor\":4.0}"}},
       "rope_scaling.rope_theta is 1; expected more than 1 with yarn"},
      {{{"head_dim", "2"}, {"rope_scaling", "{\"type\":\"dynamic\",\"factor\":4.0}"}},
       "rope_scaling.rope_type is \"dynamic\"; expected another one for heads of which 2"},
      {{{"original_max_position_embeddings", "1"},
        {"rope_scaling",
         "{\"type\":\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,1],"
         "\"long_factor\":[1,1,1,1,1,1,1,1]}"}},
       "rope_scaling.original_max_position_embeddings is 1; expected more than 1 with longrope"},
      {OfFamily("Phi3ForCausalLM", "phi3",
                {{"rope_scaling", "{\"type\":\"linear\",\"factor\":4.0}"}}),
       "rope_scaling is of another type; expected \"longrope\"", kUnimplemented},
      {OfFamily("Phi3ForCausalLM", "phi3", {{"partial_rotary_factor", "0.1"}}),
       "partial_rotary_factor is 0.1; expected one that makes an even number of head_dim, 16"},
      {OfFamily("Ministral3ForCausalLM", "ministral3", {{"num_key_value_heads", "4"}}),
       "rope_parameters is without llama_4_scaling_beta"},
      {{{"rope_scaling", "{\"type\":\"yarn\",\"factor\":4.0,\"llama_4_scaling_beta\":0.1}"}},
       "llama_4_scaling_beta is 0.1; expected nothing",
       kUnimplemented},
      {OfFamily("Gemma2ForCausalLM", "gemma2",
                {{"num_key_value_heads", "4"}, {"use_bidirectional_attention", "true"}}),
       "use_bidirectional_attention is true", kUnimplemented},
      {OfFamily("Gemma3ForCausalLM", "gemma3_text",
                {{"num_key_value_heads", "4"},
                 {"rope_parameters", "{\"rope_type\":\"linear\",\"factor\":4.0}"}}),
       "rope_parameters is for all layers alike; expected objects for \"full_attention\"",
       kUnimplemented},
      {OfFamily("SmolLM3ForCausalLM", "smollm3", {{"no_rope_layers", "[1, 2]"}}),
       "no_rope_layers is an array of 2; expected a list of 2 times 0 or 1"},
      {OfFamily("Lfm2ForCausalLM", "lfm2",
                {{"num_key_value_heads", "4"}, {"layer_types", "[\"conv\", \"mamba\"]"}}),
       "layer_types[1] is \"mamba\"", kUnimplemented},
      {OfFamily("Lfm2ForCausalLM", "lfm2",
                {{"num_key_value_heads", "4"}, {"full_attn_idxs", "[2]"}}),
       "full_attn_idxs is an array of 1; expected a list of layers from 0 to 1"},
      {OfFamily("Lfm2ForCausalLM", "lfm2",
                {{"num_key_value_heads", "4"},
                 {"intermediate_size", "1048576"},
                 {"block_ffn_dim_multiplier", "1000.0"}}),
       "block_ffn_dim_multiplier is 1000; expected one that makes 1 to 1048576 channels"},
      {OfFamily("OPTForCausalLM", "opt",
                {{"ffn_dim", "64"}, {"layer_norm_elementwise_affine", "false"}}),
       "layer_norm_elementwise_affine is false", kUnimplemented},
      {OfFamily("OPTForCausalLM", "opt", {}), "ffn_dim is missing"},
      {{{"partial_rotary_factor", "0.5"}},
       "partial_rotary_factor is 0.5; expected 1",
       kUnimplemented},
      // These exist, but not here.
      {{{"hidden_act", "\"gelu\""}}, "hidden_act is \"gelu\"; expected \"silu\"", kUnimplemented},
      {{{"layer_types", "[\"full_attention\",\"chunked_attention\"]"}},
       "layer_types[1] is \"chunked_attention\"",
       kUnimplemented},
      {{{"per_layer_config", "{}"}}, "per_layer_config is an object of 0", kUnimplemented},
      {{{"configuration_files", "[\"a\"]"}},
       "configuration_files is an array of 1",
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
