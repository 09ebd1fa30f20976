#include "core/model/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelConfig Config(const std::string& architecture) {
  ModelConfig config;
  config.source = "dir/config.json";
  config.architecture = architecture;
  config.hidden_size = 24;
  config.intermediate_size = 44;
  config.num_hidden_layers = 2;
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
  for (const TensorSpec& tensor : BlockTensors(**FindFamily(config), config, 1)) {
    if (tensor.name.find(".bias") != std::string::npos) names.push_back(tensor.name);
  }
  return names;
}

TEST(FamilyTest, NamesAndShapesAreThoseOfHuggingFaceCheckpoints) {
  ModelConfig config = Config("LlamaForCausalLM");
  const Family& family = **FindFamily(config);
  EXPECT_THAT(Lines(BlockTensors(family, config, 7)),
              ElementsAre("model.layers.7.input_layernorm.weight 24",
                          "model.layers.7.self_attn.q_proj.weight 32 24",
                          "model.layers.7.self_attn.k_proj.weight 16 24",
                          "model.layers.7.self_attn.v_proj.weight 16 24",
                          "model.layers.7.self_attn.o_proj.weight 24 32",
                          "model.layers.7.post_attention_layernorm.weight 24",
                          "model.layers.7.mlp.gate_proj.weight 44 24",
                          "model.layers.7.mlp.up_proj.weight 44 24",
                          "model.layers.7.mlp.down_proj.weight 24 44"));
  EXPECT_THAT(Lines(OuterTensors(family, config)),
              ElementsAre("model.embed_tokens.weight 40 24", "model.norm.weight 24",
                          "lm_head.weight 40 24"));
  EXPECT_EQ(HeadName(family, config), "lm_head.weight");
  config.tie_word_embeddings = true;
  EXPECT_EQ(OuterTensors(family, config).size(), 2u);
  EXPECT_EQ(HeadName(family, config), "model.embed_tokens.weight");
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

TEST(FamilyTest, AnUnknownArchitectureIsNamedBesideThoseWeKnow) {
  const auto family = FindFamily(Config("GPT2LMHeadModel"));
  EXPECT_EQ(family.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(family.status().message()),
              HasSubstr("dir/config.json: architectures[0] is \"GPT2LMHeadModel\"; expected one of "
                        "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM"));
}

// Every Linear stands in one group, and what a scale folds into gives as many channels as the
// group reads: through the heads that share a kv head where they are tied.
TEST(FamilyTest, EveryLinearIsInOneGroupWhoseScaleCanBeFolded) {
  for (const Family& family : Families()) {
    const ModelConfig config = Config(std::string(family.architecture));
    std::multiset<LinearRole> grouped;
    for (const GroupRow& group : family.groups) {
      const int64_t in_features = ShapeOf(family, config, group.linears.front()).in_features;
      for (const LinearRole role : group.linears) {
        grouped.insert(role);
        EXPECT_EQ(ShapeOf(family, config, role).in_features, in_features);
      }
      ASSERT_NE(group.fold_into_norm.has_value(), group.fold_into_linear.has_value());
      if (group.fold_into_norm.has_value()) {
        EXPECT_EQ(in_features, config.hidden_size);
        EXPECT_FALSE(group.tied_heads);
      } else {
        const int64_t times = group.tied_heads ? config.QueryHeadsPerKvHead() : 1;
        EXPECT_EQ(ShapeOf(family, config, *group.fold_into_linear).out_features * times,
                  in_features);
      }
    }
    EXPECT_EQ(grouped.size(), kLinearRoles);
    EXPECT_EQ(std::set<LinearRole>(grouped.begin(), grouped.end()).size(), kLinearRoles);
  }
}

}  // namespace
}  // namespace salient
