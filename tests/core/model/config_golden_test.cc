// Checks every config.json of tests/golden/configs.json: what transformers computes with it is what
// we compute, or we refuse it and say why; what its config classes refuse is known, and a result's
// config.json has nothing of it (tests/golden/make_config_goldens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/config/json.h"
#include "core/config/model/model_config.h"
#include "core/config/model/refusal.h"
#include "core/linalg/gemm.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/model/families/family.h"
#include "core/model/group_observer.h"
#include "core/model/model.h"
#include "core/model/own_head.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"
#include "tests/core/model/golden_config_model.h"
#include "tests/core/model/small_model.h"

namespace salient {
namespace {

using testing::GoldenModel;
using testing::GoldenWeights;
using testing::Must;

// Returns what transformers runs and we do not, by "<family>/<name>", and the member that we name.
const std::map<std::string, std::string>& RefusedHere() {
  static const auto* const refused = new std::map<std::string, std::string>{
      {"llama/act_gelu", "hidden_act is \"gelu\""},
      {"llama/llama3_original_float", "original_max_position_embeddings is 16.0"},
      {"llama/llama3_factor_small", "rope_scaling.factor is 0.5"},
      {"llama/llama3_equal_factors", "rope_scaling.high_freq_factor is 1"},
      {"llama/rope_false", "rope_scaling is false"},
      {"llama/rope_nested", "rope_parameters[\"full_attention\"] is an object"},
      {"llama/partial_rotary", "partial_rotary_factor is 0.5"},
      {"llama/architectures_two", "architectures is an array of 2"},
      {"llama/architectures_base", "architectures[0] is \"LlamaModel\""},
      {"llama/model_type_mistral_window_8", "model_type is \"mistral\"; expected \"llama\""},
      {"mistral/model_type_llama_window_8", "model_type is \"llama\"; expected \"mistral\""},
      {"qwen2/model_type_llama", "model_type is \"llama\"; expected \"qwen2\""},
      {"llama/per_layer_config", "per_layer_config is an object of 1"},
      {"llama/infinite_theta", "rope_theta is inf"},
      {"llama/named_twice", "two members named \"note\""},
  };
  return *refused;
}

double Perplexity(const Matrix& logits, const std::vector<int64_t>& tokens) {
  double sum = 0;
  for (size_t t = 0; t + 1 < tokens.size(); ++t) {
    const float* row = logits.Row(static_cast<int64_t>(t));
    double largest = row[0];
    for (int64_t i = 0; i < logits.cols(); ++i) largest = std::max<double>(largest, row[i]);
    double total = 0;
    for (int64_t i = 0; i < logits.cols(); ++i) total += std::exp(row[i] - largest);
    sum += largest + std::log(total) - row[tokens[t + 1]];
  }
  return std::exp(sum / static_cast<double>(tokens.size() - 1));
}

class ConfigGoldenTest : public ::testing::TestWithParam<const char*> {
 protected:
  ConfigGoldenTest()
      : golden_(Must(ParseJson(
            "configs.json",
            Must(ReadTextFile(testing::TestsDirectory() + "golden/configs.json", 1 << 20))))) {
    LimitThreadToItself();
  }

  // Returns the config.json of a case.
  std::string TextOf(const JsonValue& golden) const {
    JsonValue::Object members = *golden_.Find("bases")->Find(GetParam())->AsObject();
    const JsonValue::Object& changes = *golden.Find("changes")->AsObject();
    std::string text;
    for (const JsonValue::Member& change : changes) {
      auto member = members.begin();
      while (member != members.end() && member->first != change.first) ++member;
      if (member == members.end()) {
        members.push_back(change);
      } else {
        member->second = change.second;
      }
    }
    for (const auto& [name, value] : members) {
      if (value.IsNull()) continue;  // It is left out.
      absl::StrAppend(&text, text.empty() ? "{" : ", ", JsonQuote(name), ": ", *value.AsString());
    }
    return text + "}";
  }

  // Returns what we compute, or the error that says why we do not.
  absl::StatusOr<double> Run(const ModelConfig& config, const GoldenWeights& weights) {
    const GoldenModel golden(weights);
    Model model = Must(PlanModel(config));
    const auto own = HasOwnHead(golden.source(), model, HeadComparison::kWhole);
    if (!own.ok()) return own.status();
    model.config.own_head = *own;
    absl::Status status = CheckModelTensors(golden.source(), model);
    if (!status.ok()) return status;
    std::vector<int64_t> tokens;
    for (const double value : testing::Uniform("tokens", weights.tokens)) {
      tokens.push_back(static_cast<int64_t>((value + 1) * 20));
    }
    SerialExecutor executor;
    return Perplexity(testing::RunModel(golden.source(), model, tokens, ComputeDType::kF32,
                                        IgnoreGroup, executor),
                      tokens);
  }

  const JsonValue golden_;
};

// The config.json of a result, read again, is refused by nobody and means the same.
void CheckMended(const ModelConfig& config, const std::string& text) {
  JsonValue document = Must(ParseConfigJson("config.json", text));
  MendConfig(config, *document.AsObject());
  const ModelConfig mended = Must(ParseModelConfig("result", JsonText(document)));
  std::set<std::string> refused;
  for (const ConfigRefusal& refusal : config.refusals) {
    if (refusal.mend == ConfigRefusal::Mend::kNone) refused.insert(refusal.field);
  }
  for (const ConfigRefusal& refusal : mended.refusals) {
    EXPECT_TRUE(refused.contains(refusal.field)) << refusal.text;
  }
  EXPECT_EQ(mended.num_key_value_heads, config.num_key_value_heads);
  EXPECT_EQ(mended.head_dim, config.head_dim);
  EXPECT_EQ(mended.rms_norm_eps, config.rms_norm_eps);
  EXPECT_EQ(mended.rope.theta, config.rope.theta);
  EXPECT_EQ(mended.sliding_window, config.sliding_window);
  EXPECT_EQ(mended.TiesHead(), config.TiesHead());
  EXPECT_EQ(mended.attention_bias, config.attention_bias);
}

TEST_P(ConfigGoldenTest, ComputesWhatTransformersComputesOrSaysWhyNot) {
  std::set<std::string> left;
  for (const auto& [name, error] : RefusedHere()) {
    if (absl::StartsWith(name, absl::StrCat(GetParam(), "/"))) left.insert(name);
  }
  int compared = 0;
  for (const JsonValue& golden : *golden_.Find("cases")->AsArray()) {
    if (*golden.Find("family")->AsString() != GetParam()) continue;
    const std::string name = absl::StrCat(GetParam(), "/", *golden.Find("name")->AsString());
    const std::string text = TextOf(golden);
    SCOPED_TRACE(absl::StrCat(name, ": ", text));
    const JsonValue* const perplexity = golden.Find("perplexity");
    const bool config_loads = golden.Find("config_error") == nullptr;
    const absl::StatusOr<ModelConfig> config = ParseModelConfig("config.json", text);
    if (!config.ok()) {
      EXPECT_TRUE(absl::StartsWith(config.status().message(), "config.json: ")) << config.status();
      if (perplexity == nullptr) continue;
      const auto refused = RefusedHere().find(name);
      ASSERT_NE(refused, RefusedHere().end()) << config.status();
      EXPECT_THAT(std::string(config.status().message()), ::testing::HasSubstr(refused->second));
      left.erase(name);
      continue;
    }
    CheckMended(*config, text);
    const absl::StatusOr<double> ours = Run(*config, GoldenWeights(golden, GetParam()));
    if (perplexity == nullptr) {
      EXPECT_TRUE(!config->refusals.empty() || !ours.ok()) << "transformers does not run it";
      continue;
    }
    ASSERT_TRUE(ours.ok()) << ours.status();
    const double expected = *perplexity->AsDouble();
    EXPECT_NEAR(*ours, expected, 1e-4 * std::max(1.0, expected / 200));
    EXPECT_EQ(config->refusals.empty(), config_loads)
        << (config_loads ? config->refusals.front().text
                         : *golden.Find("config_error")->AsString());
    ++compared;
  }
  EXPECT_GT(compared, 50);
  EXPECT_THAT(left, ::testing::IsEmpty()) << "no longer refused";
}

INSTANTIATE_TEST_SUITE_P(Families, ConfigGoldenTest, ::testing::Values("llama", "mistral", "qwen2"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace salient
