// Function preservation: scaled but unquantized weights give what the model gave, for every rule by
// which a scale folds, alone and together.
#include "core/model/fold.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/model/activations.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "tests/core/model/small_model.h"
#include "tests/support/random_model.h"

namespace salient {
namespace {

using testing::Must;
using testing::SmallModel;

constexpr int64_t kTokens = 23;

struct FoldCase {
  std::string name;
  std::string fields;  // They are those of config.json.
  DType dtype;
};

constexpr char kShape[] =
    "\"hidden_size\": 48, \"intermediate_size\": 88, \"num_hidden_layers\": 2, \"vocab_size\": 64, "
    "\"rms_norm_eps\": 1e-5, \"num_attention_heads\": 6, ";

class FoldTest : public ::testing::TestWithParam<FoldCase> {
 protected:
  FoldTest() {
    LimitThreadToItself();
    directory_ = std::filesystem::path(::testing::TempDir()) / ("fold_test." + GetParam().name);
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    testing::WriteRandomModel(directory_, "{" + std::string(kShape) + GetParam().fields + "}",
                              GetParam().dtype, 5);
    model_.emplace(directory_.string());
    for (int64_t i = 0; i < kTokens; ++i) tokens_.push_back(i * 29 % 64);
  }
  ~FoldTest() override { std::filesystem::remove_all(directory_); }

  // Returns anything from 1/8 to 8, the same in the query heads of one kv head where the row says
  // so.
  std::vector<float> Scales(const BlockPlan& block, const GroupPlan& group) {
    const int64_t columns = block.InputsOf(group);
    std::uniform_real_distribution<float> exponent(-3, 3);
    std::vector<float> scales(static_cast<size_t>(columns));
    for (float& s : scales) s = std::exp2(exponent(random_));
    if (!group.fold.shared_heads.has_value()) return scales;
    const auto& [head_dim, query_heads] = *group.fold.shared_heads;
    const int64_t shared = query_heads * head_dim;
    for (int64_t j = 0; j < columns; ++j) scales[j] = scales[j / shared * shared + j % head_dim];
    return scales;
  }

  // Logits after `change` altered each block, and the inputs of the last block's groups.
  struct Outcome {
    Matrix logits;
    std::map<size_t, std::vector<float>> inputs;
  };
  template <class Change>
  Outcome Run(Change change) {
    const Model& model = model_->plan;
    const BlockForward forward(model, ComputeDType::kF32, kTokens);
    Outcome outcome;
    Matrix hidden = Must(EmbedTokens(model_->checkpoint, model, tokens_));
    for (int64_t layer = 0; layer < model.config.num_hidden_layers; ++layer) {
      BlockWeights block = Must(ReadBlock(model_->checkpoint, model, layer, executor_));
      change(block);
      hidden = Must(forward.Run(
          Must(forward.Prepare(block, executor_)), std::move(hidden),
          [&](size_t group, const Activations& input) {
            outcome.inputs[group].assign(input.F32(0), input.F32(input.tokens()));
            return absl::OkStatus();
          },
          executor_));
    }
    const OutputHead head = Must(OutputHead::Open(model_->checkpoint, model));
    outcome.logits =
        Must(Logits(Must(head.Norm(hidden, executor_)), Must(head.Read(0, executor_)), executor_));
    return outcome;
  }

  // Returns it as a share of the largest magnitude.
  static double Difference(const Matrix& a, const Matrix& b) {
    double largest = 0;
    double difference = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t j = 0; j < a.cols(); ++j) {
        largest = std::max<double>(largest, std::abs(a.Row(t)[j]));
        const double d = std::abs(static_cast<double>(a.Row(t)[j]) - b.Row(t)[j]);
        difference = d <= difference ? difference : d;  // NaN is the largest.
      }
    }
    return difference / largest;
  }

  std::filesystem::path directory_;
  std::optional<SmallModel> model_;
  std::vector<int64_t> tokens_;
  std::mt19937_64 random_{7};
  SerialExecutor executor_;
};

// Does the other half of a fold, which rounding does on the way.
void ScaleColumns(const GroupPlan& group, const std::vector<float>& scales, BlockWeights& block) {
  for (const size_t index : group.linears) {
    block.linears[index] = MultiplyColumns(block.linears[index], scales);
  }
}

TEST_P(FoldTest, EveryRuleAloneKeepsTheLogitsAndDividesItsInput) {
  const Outcome original = Run([](BlockWeights&) {});
  const BlockPlan& plan = model_->plan.blocks.front();
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    const GroupPlan& group = plan.groups[i];
    const std::vector<float> scales = Scales(plan, group);
    const Outcome folded = Run([&](BlockWeights& block) {
      DivideInput(plan, group, scales, block);
      ScaleColumns(group, scales, block);
    });
    EXPECT_LT(Difference(original.logits, folded.logits), 1e-5) << group.path;
    const std::vector<float>& before = original.inputs.at(i);
    const std::vector<float>& after = folded.inputs.at(i);
    ASSERT_EQ(before.size(), after.size());
    for (size_t j = 0; j < before.size(); ++j) {
      const float s = scales[j % scales.size()];
      ASSERT_NEAR(after[j] * s, before[j], 1e-4 * std::max(1.0f, std::abs(before[j])))
          << group.path << " element " << j;
    }
    // Half a fold is none: what is compared above does depend on both halves.
    const Outcome divided =
        Run([&](BlockWeights& block) { DivideInput(plan, group, scales, block); });
    EXPECT_GT(Difference(original.logits, divided.logits), 1e-2) << group.path;
    const Outcome multiplied =
        Run([&](BlockWeights& block) { ScaleColumns(group, scales, block); });
    EXPECT_GT(Difference(original.logits, multiplied.logits), 1e-2) << group.path;
  }
}

TEST_P(FoldTest, AllRulesTogetherKeepTheLogits) {
  const Outcome original = Run([](BlockWeights&) {});
  const BlockPlan& plan = model_->plan.blocks.front();
  const Outcome folded = Run([&](BlockWeights& block) {
    for (const GroupPlan& group : plan.groups) {
      const std::vector<float> scales = Scales(plan, group);
      DivideInput(plan, group, scales, block);
      ScaleColumns(group, scales, block);
    }
  });
  EXPECT_LT(Difference(original.logits, folded.logits), 1e-5);
}

constexpr char kLlama[] = "\"architectures\": [\"LlamaForCausalLM\"]";

INSTANTIATE_TEST_SUITE_P(
    Switches, FoldTest,
    ::testing::Values(
        FoldCase{"full_attention", kLlama, DType::kF32},
        FoldCase{"grouped_query", kLlama + std::string(", \"num_key_value_heads\": 2"),
                 DType::kF16},
        FoldCase{"multi_query_own_head_dim",
                 kLlama + std::string(", \"num_key_value_heads\": 1, \"head_dim\": 10"),
                 DType::kF32},
        FoldCase{"grouped_query_all_biases",
                 kLlama + std::string(", \"num_key_value_heads\": 3, \"attention_bias\": true, "
                                      "\"mlp_bias\": true"),
                 DType::kBF16},
        FoldCase{"qkv_biases",
                 "\"architectures\": [\"Qwen2ForCausalLM\"], \"num_key_value_heads\": 2",
                 DType::kF32},
        FoldCase{"tied_head", kLlama + std::string(", \"tie_word_embeddings\": true"),
                 DType::kF32}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace salient
