#include "client/report/evaluation.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/terminal/json_text.h"
#include "client/terminal/table.h"

namespace salient::client {
namespace {

using Align = Table::Align;

JsonObject PerplexityJson(const v1::ModelScore& score) {
  return JsonObject().AddNumber("perplexity", score.perplexity());
}

std::string ErrorText(const v1::ModelScore& score, int block) {
  return block < score.layer_errors_size() ? absl::StrFormat("%.6f", score.layer_errors(block))
                                           : "-";
}

}  // namespace

std::string EvaluationTable(const std::string& result, const std::string& source,
                            const v1::Evaluation& evaluation) {
  const bool compared = evaluation.has_reference();
  std::vector<Table::Column> columns = {{"model", Align::kLeft}, {"perplexity"}};
  if (compared) {
    columns.push_back({"KL"});
    columns.push_back({"top-1 agreement"});
  }
  Table scores(std::move(columns));
  const auto add = [&scores](const std::string& name, const v1::ModelScore& score, bool other) {
    scores.AddRow({name, absl::StrFormat("%.5f", score.perplexity()),
                   other ? absl::StrFormat("%.6f", score.kl()) : "-",
                   other ? absl::StrFormat("%.2f %%", 100 * score.top1_agreement()) : "-"});
  };
  if (compared) add(source, evaluation.reference(), false);
  if (evaluation.has_round_to_nearest()) {
    add("round-to-nearest", evaluation.round_to_nearest(), true);
  }
  add(result, evaluation.model(), compared);
  std::string text = scores.Render();
  if (evaluation.model().layer_errors().empty()) return text;

  const bool nearest = evaluation.has_round_to_nearest();
  std::vector<Table::Column> headings = {{"block"}, {"relative error"}};
  if (nearest) headings.push_back({"round-to-nearest"});
  Table layers(std::move(headings));
  for (int block = 0; block < evaluation.model().layer_errors_size(); ++block) {
    layers.AddRow({absl::StrCat(block), ErrorText(evaluation.model(), block),
                   ErrorText(evaluation.round_to_nearest(), block)});
  }
  return absl::StrCat(text, "\n", layers.Render());
}

std::string NearestText(const v1::EvaluateTask& task, const v1::Evaluation& evaluation) {
  if (!evaluation.has_round_to_nearest()) return "";
  if (!task.has_round_to_nearest()) {
    return "round-to-nearest: each Linear in the bits and groups that the result has\n";
  }
  // A 0 in the API stands for the default.
  const v1::WeightFormat& format = task.round_to_nearest();
  const int64_t group = format.group_size() != 0 ? format.group_size() : 128;
  return absl::StrCat("round-to-nearest: ", format.bits() != 0 ? format.bits() : 4, " bits, ",
                      format.symmetric() ? "symmetric, " : "", "a scale for ",
                      group == -1 ? "a row" : absl::StrCat(group, " columns"), "\n");
}

std::string EvaluationJson(double seconds, const v1::Evaluation& evaluation) {
  const v1::ModelScore& result = evaluation.model();
  const v1::ModelScore& rtn = evaluation.round_to_nearest();
  JsonObject object;
  if (evaluation.has_reference()) {
    object.AddObject("source", PerplexityJson(evaluation.reference()));
  }
  object.AddObject("result", PerplexityJson(result));
  if (evaluation.has_round_to_nearest()) object.AddObject("rtn", PerplexityJson(rtn));
  if (evaluation.has_reference()) {
    object.AddNumber("kl", result.kl()).AddNumber("top1_agreement", result.top1_agreement());
  }
  if (evaluation.has_round_to_nearest()) {
    object.AddNumber("rtn_kl", rtn.kl()).AddNumber("rtn_top1_agreement", rtn.top1_agreement());
  }
  std::vector<JsonObject> layers;
  for (int block = 0; block < result.layer_errors_size(); ++block) {
    JsonObject layer;
    layer.AddInteger("block", block).AddNumber("error", result.layer_errors(block));
    if (block < rtn.layer_errors_size()) layer.AddNumber("rtn_error", rtn.layer_errors(block));
    layers.push_back(std::move(layer));
  }
  return object.AddArray("layers", layers)
      .AddInteger("tokens", result.token_count())
      .AddNumber("seconds", seconds)
      .Text();
}

}  // namespace salient::client
