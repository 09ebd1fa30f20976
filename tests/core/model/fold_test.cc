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
  std::vector<float> Scales(const GroupRow& row) {
    const int64_t columns = ShapeOf(model_->family, model_->config, row.linears[0]).in_features;
    std::uniform_real_distribution<float> exponent(-3, 3);
    std::vector<float> scales(static_cast<size_t>(columns));
    for (float& s : scales) s = std::exp2(exponent(random_));
    if (!row.tied_heads) return scales;
    const int64_t head_dim = model_->config.head_dim;
    const int64_t shared = model_->config.QueryHeadsPerKvHead() * head_dim;
    for (int64_t j = 0; j < columns; ++j) scales[j] = scales[j / shared * shared + j % head_dim];
    return scales;
  }

  // Logits after `change` altered each block, and the inputs of the last block's groups.
  struct Outcome {
    Matrix logits;
    std::map<GroupRole, std::vector<float>> inputs;
  };
  template <class Change>
  Outcome Run(Change change) {
    const ModelConfig& config = model_->config;
    const Family& family = model_->family;
    const BlockForward forward(config, ComputeDType::kF32, kTokens);
    Outcome outcome;
    Matrix hidden = Must(EmbedTokens(model_->checkpoint, family, config, tokens_));
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      BlockWeights block = Must(ReadBlock(model_->checkpoint, family, config, layer, executor_));
      change(block);
      hidden = Must(forward.Run(
          Must(forward.Prepare(block, executor_)), std::move(hidden),
          [&](GroupRole group, const Activations& input) {
            outcome.inputs[group].assign(input.F32(0), input.F32(input.tokens()));
            return absl::OkStatus();
          },
          executor_));
    }
    const OutputHead head = Must(OutputHead::Open(model_->checkpoint, family, config));
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
void MultiplyColumns(const GroupRow& row, const std::vector<float>& scales, BlockWeights& block) {
  for (const LinearRole role : row.linears) {
    StoredLinear& linear = block.linear(role);
    std::vector<float> values(static_cast<size_t>(linear.out_features * linear.in_features));
    linear.View().ReadRows(0, linear.out_features, values.data());
    for (size_t i = 0; i < values.size(); ++i) values[i] *= scales[i % scales.size()];
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    linear.weight.assign(bytes, bytes + values.size() * sizeof(float));
    linear.dtype = DType::kF32;
  }
}

TEST_P(FoldTest, EveryRuleAloneKeepsTheLogitsAndDividesItsInput) {
  const Outcome original = Run([](BlockWeights&) {});
  for (const GroupRow& row : model_->family.groups) {
    const std::vector<float> scales = Scales(row);
    const Outcome folded = Run([&](BlockWeights& block) {
      DivideInput(row, model_->config, scales, block);
      MultiplyColumns(row, scales, block);
    });
    EXPECT_LT(Difference(original.logits, folded.logits), 1e-5) << row.name;
    const std::vector<float>& before = original.inputs.at(row.role);
    const std::vector<float>& after = folded.inputs.at(row.role);
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); ++i) {
      const float s = scales[i % scales.size()];
      ASSERT_NEAR(after[i] * s, before[i], 1e-4 * std::max(1.0f, std::abs(before[i])))
          << row.name << " element " << i;
    }
    // Half a fold is none: what is compared above does depend on both halves.
    const Outcome divided =
        Run([&](BlockWeights& block) { DivideInput(row, model_->config, scales, block); });
    EXPECT_GT(Difference(original.logits, divided.logits), 1e-2) << row.name;
    const Outcome multiplied =
        Run([&](BlockWeights& block) { MultiplyColumns(row, scales, block); });
    EXPECT_GT(Difference(original.logits, multiplied.logits), 1e-2) << row.name;
  }
}

TEST_P(FoldTest, AllRulesTogetherKeepTheLogits) {
  const Outcome original = Run([](BlockWeights&) {});
  const Outcome folded = Run([&](BlockWeights& block) {
    for (const GroupRow& row : model_->family.groups) {
      const std::vector<float> scales = Scales(row);
      DivideInput(row, model_->config, scales, block);
      MultiplyColumns(row, scales, block);
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
