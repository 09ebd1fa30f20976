// Holds the proof of folds against every family, which it must let pass, and against plans that are
// wrong in the ways that tools of others are, each of which it must refuse.
#include "core/quantize/fold_proof.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/model/block_plan.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/parallel/executor.h"
#include "tests/core/model/small_model.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::Must;
using testing::SmallModel;

std::string FamilyDirectory(const std::string& name) {
  return testing::TestsDirectory() + "golden/families/" + name;
}

// Returns scales from 1/4 to 4, the same in the query heads of one kv head if `shared`.
std::vector<float> ProofScales(const BlockPlan& block, const GroupPlan& group, bool shared) {
  std::mt19937_64 random(11);
  std::uniform_real_distribution<float> exponent(-2, 2);
  std::vector<float> scales(static_cast<size_t>(block.InputsOf(group)));
  for (float& s : scales) s = std::exp2(exponent(random));
  if (!shared || !group.fold.shared_heads.has_value()) return scales;
  const auto channels = static_cast<size_t>(group.fold.shared_heads->head_dim);
  const auto heads = static_cast<size_t>(group.fold.shared_heads->query_heads_per_kv_head);
  for (size_t j = 0; j < scales.size(); ++j) {
    scales[j] = scales[j / (heads * channels) * heads * channels + j % channels];
  }
  return scales;
}

class ProofBench {
 public:
  explicit ProofBench(const std::string& family) : model_(FamilyDirectory(family)) {
    LimitThreadToItself();
  }

  const Model& model() const { return model_.plan; }

  // Returns the difference that folding `group` makes in block `layer` of `plan`.
  double Difference(const Model& plan, int64_t layer, const GroupPlan& group,
                    const std::vector<float>& scales) {
    std::vector<int64_t> tokens;
    for (int64_t i = 0; i < 40; ++i) tokens.push_back(i * 7 % plan.config.vocab_size);
    const Matrix row = Must(EmbedTokens(model_.checkpoint, plan, tokens));
    BlockWeights block = Must(ReadBlock(model_.checkpoint, plan, layer, executor_));
    const BlockWeights before = block;
    FoldProof proof(plan, row);
    const double difference = Must(proof.Difference(group, scales, block, executor_));
    for (size_t i = 0; i < block.linears.size(); ++i) {
      EXPECT_EQ(block.linears[i].weight, before.linears[i].weight);
      EXPECT_EQ(block.linears[i].bias.values, before.linears[i].bias.values);
    }
    for (size_t i = 0; i < block.vectors.size(); ++i) {
      EXPECT_EQ(block.vectors[i].values, before.vectors[i].values);
    }
    return difference;
  }

 private:
  SmallModel model_;
  SerialExecutor executor_;
};

TEST(FoldProofTest, EveryFoldOfEveryFamilyPasses) {
  int folds = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FamilyDirectory(""))) {
    if (!entry.is_directory()) continue;
    ProofBench bench(entry.path().filename().string());
    for (const BlockPlan& block : bench.model().blocks) {
      for (const GroupPlan& group : block.groups) {
        if (group.fold.into == Fold::Into::kNothing) continue;
        ++folds;
        const double difference =
            bench.Difference(bench.model(), block.layer, group, ProofScales(block, group, true));
        EXPECT_LT(difference, 1e-5) << entry.path() << " " << group.name;
        EXPECT_TRUE(FoldProof::Check(group, difference).ok());
      }
    }
  }
  EXPECT_GT(folds, 500);
}

struct PlantedFault {
  std::string name;
  std::string family;
  size_t group;
  // Makes the plan of the group wrong.
  std::function<void(const BlockPlan& block, GroupPlan& group)> plant;
  bool shared = true;  // Scales are the same in heads that share a kv head.
};

const std::vector<PlantedFault>& PlantedFaults() {
  static const auto* const faults = new std::vector<PlantedFault>{
      {"AReaderIsLeftOut", "qwen3_plain", 0,
       [](const BlockPlan&, GroupPlan& group) { group.linears.pop_back(); }},
      {"TheGateIsLeftOut", "granite_plain", 2,
       [](const BlockPlan&, GroupPlan& group) { group.linears.erase(group.linears.begin()); }},
      {"TiedKeyValueHeadsAreForgotten", "qwen3_plain", 1, [](const BlockPlan&, GroupPlan&) {},
       /*shared=*/false},
      {"IntoTheGateInsteadOfUp", "llama_linear", 3,
       [](const BlockPlan&, GroupPlan& group) { --group.fold.index; }},
      {"IntoKeysInsteadOfValues", "qwen2_layer_types", 1,
       [](const BlockPlan&, GroupPlan& group) { --group.fold.index; }},
      {"IntoTheFirstRowsOfFusedLinears", "phi3_plain", 3,
       [](const BlockPlan&, GroupPlan& group) { group.fold.first_row = 0; }},
      {"IntoTheQueriesOfFusedLinears", "phi3_plain", 1,
       [](const BlockPlan&, GroupPlan& group) { group.fold.first_row = 0; }},
      {"IntoTheNormAfterAttention", "gemma2_plain", 2,
       [](const BlockPlan& block, GroupPlan& group) {
         group.fold.index = *block.sublayers[0].post_norm;
       }},
      {"IntoTheNormAfterAMixerThatHasNoneBefore", "olmo2_plain", 2,
       [](const BlockPlan& block, GroupPlan& group) {
         group.fold = {Fold::Into::kNorm, *block.sublayers[0].post_norm};
       }},
      {"IntoAnotherNorm", "smollm3_interval", 0,
       [](const BlockPlan&, GroupPlan& group) { group.fold.index = 1; }},
      {"IntoTheGateBeforeAConvolutionWithABias", "lfm2_conv_bias", 1,
       [](const BlockPlan&, GroupPlan& group) { group.fold.first_row = 0; }},
      {"IntoNothing", "opt_plain", 2, [](const BlockPlan&, GroupPlan& group) { group.fold = {}; }},
  };
  return *faults;
}

class PlantedFaultTest : public ::testing::TestWithParam<PlantedFault> {};

TEST_P(PlantedFaultTest, IsRefusedByName) {
  const PlantedFault& fault = GetParam();
  ProofBench bench(fault.family);
  const BlockPlan& block = bench.model().blocks[0];
  GroupPlan wrong = block.groups[fault.group];
  fault.plant(block, wrong);
  const std::vector<float> scales = ProofScales(block, block.groups[fault.group], fault.shared);
  const double difference = bench.Difference(bench.model(), 0, wrong, scales);
  const absl::Status status = FoldProof::Check(wrong, difference);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << difference;
  EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.name));
}

INSTANTIATE_TEST_SUITE_P(Plans, PlantedFaultTest, ::testing::ValuesIn(PlantedFaults()),
                         [](const auto& test) { return test.param.name; });

// An activation that is not homogeneous passes no scale on.
TEST(FoldProofTest, AScaleThroughGeluIsRefused) {
  ProofBench bench("opt_plain");
  Model model = bench.model();
  std::get<MlpPlan>(model.blocks[0].sublayers[1].mixer).activation = Activation::kGeluTanh;
  const BlockPlan& block = model.blocks[0];
  const GroupPlan& group = block.groups[3];
  const double difference = bench.Difference(model, 0, group, ProofScales(block, group, true));
  EXPECT_FALSE(FoldProof::Check(group, difference).ok()) << difference;
}

// A difference that is no number proves nothing, and the bound itself is good.
TEST(FoldProofTest, NoNumberIsNoProof) {
  ProofBench bench("opt_plain");
  const GroupPlan& group = bench.model().blocks[0].groups[0];
  EXPECT_FALSE(FoldProof::Check(group, std::nan("")).ok());
  EXPECT_FALSE(FoldProof::Check(group, 2 * kMostFoldError).ok());
  EXPECT_TRUE(FoldProof::Check(group, kMostFoldError).ok());
}

}  // namespace
}  // namespace salient
