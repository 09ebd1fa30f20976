#include "core/result/left_out_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/model/block_plan.h"
#include "core/model/families/family.h"
#include "core/model/model.h"
#include "core/result/quantized_checkpoint.h"
#include "core/tensor/dtype.h"

namespace salient {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Returns a config of two layers, without biases; `more` are further members.
std::string LeftOutConfig(const std::string& more) {
  return absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 64,)",
      R"( "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 96, "hidden_act": "silu",)",
      R"( "rms_norm_eps": 1e-5, "tie_word_embeddings": false)", more, "}");
}

std::vector<std::string> NamesOfModel(const Model& model) {
  std::vector<std::string> names;
  for (const TensorSpec& spec : OuterTensors(model)) names.push_back(spec.name);
  for (const BlockPlan& block : model.blocks) {
    for (const TensorSpec& spec : BlockTensors(block)) names.push_back(spec.name);
  }
  return names;
}

// Returns what is told of a model with these tensors beside its own.
std::vector<std::string> Told(const std::string& json, const std::vector<std::string>& beside) {
  const auto config = ParseModelConfig("config.json", json);
  EXPECT_TRUE(config.ok()) << config.status();
  const Model model = *PlanModel(*config);
  std::vector<std::string> names = NamesOfModel(model);
  names.insert(names.end(), beside.begin(), beside.end());
  return LeftOutTensors(names, model, json);
}

TEST(LeftOutTensorsTest, OfAWholeModelNothingIsTold) {
  EXPECT_THAT(Told(LeftOutConfig(""), {"model.layers.0.self_attn.rotary_emb.inv_freq"}), IsEmpty());
  EXPECT_THAT(Told(LeftOutConfig(R"(, "attention_bias": true)"), {}), IsEmpty());
}

TEST(LeftOutTensorsTest, TensorsThatNothingNamesAreCountedInOneSentence) {
  EXPECT_THAT(Told(LeftOutConfig(""), {"mtp.fc.weight"}),
              ElementsAre(HasSubstr("lacks 1 tensor of the source that no LlamaForCausalLM of 2 "
                                    "layers has: \"mtp.fc.weight\"")));
  EXPECT_THAT(Told(LeftOutConfig(""), {"mtp.a", "mtp.b", "mtp.c", "model.layers.2.mlp.up_proj.bias",
                                       "model.layers.2.mlp.up_proj.weight"}),
              ElementsAre(AllOf(HasSubstr("lacks 5 tensors"),
                                HasSubstr("\"mtp.a\", \"mtp.b\", \"mtp.c\" and 2 more"))));
}

TEST(LeftOutTensorsTest, BiasesThatTheConfigDoesNotAnnounceAreASentenceOfTheirOwn) {
  const std::vector<std::string> biases = {"model.layers.0.self_attn.q_proj.bias",
                                           "model.layers.1.mlp.down_proj.bias"};
  EXPECT_THAT(Told(LeftOutConfig(""), biases),
              ElementsAre(AllOf(HasSubstr("config.json does not announce 2 biases"),
                                HasSubstr(biases[0]), Not(HasSubstr("engines disagree")))));
  for (const char* key : {"bias", "qkv_bias"}) {
    EXPECT_THAT(Told(LeftOutConfig(absl::StrCat(", \"", key, "\": true")), biases),
                ElementsAre(HasSubstr(absl::StrCat("it says \"", key, "\": true, by which vLLM"))));
  }
  // The biases of attention are announced.
  EXPECT_THAT(Told(LeftOutConfig(R"(, "attention_bias": true)"), {biases[1]}),
              ElementsAre(AllOf(HasSubstr("announce 1 bias of"), HasSubstr(biases[1]))));
}

TEST(LeftOutTensorsTest, TheConfigOfAResultDoesNotPromiseThem) {
  const auto written = [](const std::string& more) {
    const std::string json = LeftOutConfig(more);
    const auto config = ParseModelConfig("config.json", json);
    EXPECT_TRUE(config.ok()) << config.status();
    QuantizedCheckpointParams params;
    params.stored.format = {4, 32, false, DType::kF16};
    const auto plan = PlanQuantizedCheckpoint(*PlanModel(*config), json, params);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan->config_json;
  };
  const std::string plain =
      written(R"(, "bias": true, "qkv_bias": true, "num_nextn_predict_layers": 1)");
  EXPECT_THAT(plain, Not(HasSubstr("num_nextn_predict_layers")));
  EXPECT_THAT(plain, AllOf(HasSubstr("\"bias\": false"), HasSubstr("\"qkv_bias\": false")));
  // With biases the key is true of them.
  EXPECT_THAT(written(R"(, "bias": true, "attention_bias": true)"),
              AllOf(HasSubstr("\"bias\": true"), HasSubstr("\"attention_bias\": true")));
}

}  // namespace
}  // namespace salient
