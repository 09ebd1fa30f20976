#include "core/model/families/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"
#include "core/model/model.h"

namespace salient {
namespace {

using ::testing::ElementsAre;

ModelConfig Config(const std::string& architecture) {
  ModelConfig config;
  config.source = "dir/config.json";
  config.architecture = architecture;
  config.hidden_size = 24;
  config.intermediate_size = 44;
  config.num_hidden_layers = 8;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.vocab_size = 40;
  return config;
}

std::vector<std::string> Lines(const std::vector<TensorSpec>& tensors) {
  std::vector<std::string> lines;
  for (const TensorSpec& tensor : tensors) {
    lines.push_back(absl::StrCat(tensor.name, " ", absl::StrJoin(tensor.shape, " ")));
  }
  return lines;
}

std::vector<std::string> Biases(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const TensorSpec& tensor : BlockTensors(PlanModel(config)->blocks[1])) {
    if (tensor.name.find(".bias") != std::string::npos) names.push_back(tensor.name);
  }
  return names;
}

TEST(FamilyTest, NamesAndShapesAreThoseOfHuggingFaceCheckpoints) {
  Model model = *PlanModel(Config("LlamaForCausalLM"));
  EXPECT_THAT(Lines(BlockTensors(model.blocks[7])),
              ElementsAre("model.layers.7.input_layernorm.weight 24",
                          "model.layers.7.self_attn.q_proj.weight 32 24",
                          "model.layers.7.self_attn.k_proj.weight 16 24",
                          "model.layers.7.self_attn.v_proj.weight 16 24",
                          "model.layers.7.self_attn.o_proj.weight 24 32",
                          "model.layers.7.post_attention_layernorm.weight 24",
                          "model.layers.7.mlp.gate_proj.weight 44 24",
                          "model.layers.7.mlp.up_proj.weight 44 24",
                          "model.layers.7.mlp.down_proj.weight 24 44"));
  EXPECT_THAT(Lines(OuterTensors(model)),
              ElementsAre("model.embed_tokens.weight 40 24", "model.norm.weight 24",
                          "lm_head.weight 40 24"));
  EXPECT_EQ(model.HeadName(), "lm_head.weight");
  model.config.tie_word_embeddings = true;
  EXPECT_EQ(OuterTensors(model).size(), 2u);
  EXPECT_EQ(model.HeadName(), "model.embed_tokens.weight");
}

TEST(FamilyTest, BiasesAreThoseOfTheFamily) {
  EXPECT_THAT(Biases(Config("LlamaForCausalLM")), ElementsAre());
  EXPECT_THAT(
      Biases(Config("Qwen2ForCausalLM")),
      ElementsAre("model.layers.1.self_attn.q_proj.bias", "model.layers.1.self_attn.k_proj.bias",
                  "model.layers.1.self_attn.v_proj.bias"));
  ModelConfig config = Config("LlamaForCausalLM");
  config.attention_bias = true;
  EXPECT_EQ(Biases(config).size(), 4u);
  config.mlp_bias = true;
  EXPECT_EQ(Biases(config).size(), 7u);
  config.architecture = "MistralForCausalLM";  // It has none, whatever the config says.
  EXPECT_THAT(Biases(config), ElementsAre());
}

// A reader and a plan say the same of it.
TEST(FamilyTest, AnUnknownArchitectureIsNamedBesideWhereThoseWeKnowAreListed) {
  const absl::Status expected = absl::UnimplementedError(
      "dir/config.json: architectures[0] is \"GPT2LMHeadModel\"; expected one of those that "
      "`salient info --families` lists");
  EXPECT_EQ(PlanModel(Config("GPT2LMHeadModel")).status(), expected);
  EXPECT_EQ(
      ParseModelConfig("dir/config.json", "{\"architectures\": [\"GPT2LMHeadModel\"]}").status(),
      expected);
}

// Every Linear stands in one group, and what a scale folds into gives as many channels as the
// group reads: through the heads that share a kv head where they do.
TEST(FamilyTest, EveryLinearIsInOneGroupWhoseScaleCanBeFolded) {
  for (const Family& family : Families()) {
    const Model model = family.plan(Config(std::string(family.architecture())));
    for (const BlockPlan& block : model.blocks) {
      std::multiset<size_t> grouped;
      for (const GroupPlan& group : block.groups) {
        const int64_t in_features = block.InputsOf(group);
        for (const size_t linear : group.linears) {
          grouped.insert(linear);
          EXPECT_EQ(block.linears[linear].shape.in_features, in_features);
          EXPECT_EQ(&block.GroupOf(linear), &group);
        }
        const Fold& fold = group.fold;
        if (fold.IntoLinear()) {
          const int64_t times =
              fold.shared_heads.has_value() ? fold.shared_heads->query_heads_per_kv_head : 1;
          EXPECT_LE(fold.first_row + in_features / times,
                    block.linears[fold.index].shape.out_features);
        } else if (fold.IntoNorm()) {
          EXPECT_EQ(block.vectors[block.norms[fold.index].weight].shape,
                    std::vector<int64_t>{in_features});
          EXPECT_FALSE(fold.shared_heads.has_value());
        }
      }
      EXPECT_EQ(grouped.size(), block.linears.size());
      EXPECT_EQ(std::set<size_t>(grouped.begin(), grouped.end()).size(), block.linears.size());
    }
  }
}

}  // namespace
}  // namespace salient
