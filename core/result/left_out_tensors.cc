#include "core/result/left_out_tensors.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"
#include "core/model/model.h"
#include "core/text/quote.h"

namespace salient {
namespace {

constexpr size_t kShownNames = 3;
// This key says how many layers beyond num_hidden_layers predict further tokens.
constexpr char kPredictedTokens[] = "num_nextn_predict_layers";
// vLLM takes these as attention_bias, transformers does not.
constexpr std::array<absl::string_view, 2> kOtherBiasKeys = {"bias", "qkv_bias"};

struct ModelNames {
  std::set<std::string, std::less<>> tensors;
  std::set<std::string, std::less<>> biases;  // The model has none of them.
};

ModelNames NamesOf(const Model& model) {
  ModelNames names;
  // A tied head is a copy of the embeddings, or judged as a head of its own.
  names.tensors.emplace(model.head);
  for (TensorSpec& spec : OuterTensors(model)) names.tensors.insert(std::move(spec.name));
  for (const BlockPlan& block : model.blocks) {
    for (TensorSpec& spec : BlockTensors(block)) names.tensors.insert(std::move(spec.name));
    for (const LinearPlan& linear : block.linears) {
      if (!linear.shape.has_bias) names.biases.insert(absl::StrCat(linear.name, ".bias"));
    }
  }
  return names;
}

std::string Count(const std::vector<absl::string_view>& names, absl::string_view one,
                  absl::string_view many) {
  return names.size() == 1 ? absl::StrCat("1 ", one) : absl::StrCat(names.size(), " ", many);
}

std::string FirstOf(const std::vector<absl::string_view>& names) {
  const size_t shown = std::min(kShownNames, names.size());
  std::string text = absl::StrJoin(names.begin(), names.begin() + static_cast<int64_t>(shown), ", ",
                                   [](std::string* out, absl::string_view name) {
                                     absl::StrAppend(out, QuoteForMessage(name));
                                   });
  if (names.size() > shown) absl::StrAppend(&text, " and ", names.size() - shown, " more");
  return text;
}

bool IsTrue(const JsonValue* value) {
  return value != nullptr && value->AsBool() != nullptr && *value->AsBool();
}

std::string BiasesText(const std::vector<absl::string_view>& biases, const ModelConfig& config,
                       absl::string_view config_json) {
  std::string text = absl::StrCat(
      config.source, " does not announce ", Count(biases, "bias", "biases"), " of the source (",
      FirstOf(biases), "), so the result lacks what transformers leaves out, too");
  const auto document = ParseConfigJson(config.source, config_json);
  for (const absl::string_view key : kOtherBiasKeys) {
    if (!document.ok() || !IsTrue(document->Find(key))) continue;
    absl::StrAppend(&text, "; but it says \"", key,
                    "\": true, by which vLLM adds biases to the source: engines disagree on this "
                    "model, and the result says false");
  }
  return text;
}

}  // namespace

std::vector<std::string> LeftOutTensors(absl::Span<const std::string> names, const Model& model,
                                        absl::string_view config_json) {
  const ModelConfig& config = model.config;
  const ModelNames known = NamesOf(model);
  std::vector<absl::string_view> biases;
  std::vector<absl::string_view> others;
  for (const std::string& name : names) {
    // Older checkpoints store what follows from the config.
    if (known.tensors.contains(name) || absl::EndsWith(name, ".rotary_emb.inv_freq")) continue;
    (known.biases.contains(name) ? biases : others).push_back(name);
  }
  std::vector<std::string> told;
  if (!biases.empty()) told.push_back(BiasesText(biases, config, config_json));
  if (!others.empty()) {
    told.push_back(absl::StrCat("the result lacks ", Count(others, "tensor", "tensors"),
                                " of the source that no ", config.architecture, " of ",
                                config.num_hidden_layers, " layers has: ", FirstOf(others)));
  }
  return told;
}

void WithdrawLeftOut(const Model& model, JsonValue::Object& object) {
  object.erase(std::remove_if(object.begin(), object.end(),
                              [](const JsonValue::Member& member) {
                                return member.first == kPredictedTokens;
                              }),
               object.end());
  if (model.blocks.front().linears.front().shape.has_bias) return;
  for (JsonValue::Member& member : object) {
    if (absl::c_linear_search(kOtherBiasKeys, member.first) && IsTrue(&member.second)) {
      member.second = JsonValue(false);
    }
  }
}

}  // namespace salient
