#include "client/report/study.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/options/enum_text.h"
#include "client/terminal/json_text.h"
#include "client/terminal/table.h"

namespace salient::client {
namespace {

using Align = Table::Align;

// Holds what the contract's 0 and unset mean.
struct StudiedFormat {
  double share = 0.01;
  int bits = 3;
  int64_t group_size = 128;
  bool symmetric = false;
};

StudiedFormat FormatOf(const v1::StudyTask& task) {
  StudiedFormat format;
  if (task.salient_share() > 0) format.share = task.salient_share();
  if (!task.has_format()) return format;
  format.bits = task.format().bits() != 0 ? task.format().bits() : 4;
  if (task.format().group_size() != 0) format.group_size = task.format().group_size();
  format.symmetric = task.format().symmetric();
  return format;
}

std::string ChoiceText(v1::SalientChoice choice) {
  const std::string text = EnumText(choice);
  return text.empty() ? absl::StrCat("choice_", static_cast<int>(choice)) : text;
}

}  // namespace

std::string StudyTable(const v1::StudyTask& task, const v1::Study& study) {
  const StudiedFormat format = FormatOf(task);
  Table table({{"channels in F16", Align::kLeft},
               {"perplexity"},
               {"KL"},
               {"top-1 agreement"},
               {"relative error"}});
  table.AddRow(
      {"all (source)", absl::StrFormat("%.5f", study.source().perplexity()), "-", "-", "-"});
  for (const v1::Study::Row& row : study.rows()) {
    const std::string share = absl::StrFormat("%.3g %% by ", 100 * format.share);
    std::string name = absl::StrCat(share, ChoiceText(row.choice()));
    if (row.choice() == v1::SALIENT_CHOICE_NONE) name = "none (round-to-nearest)";
    if (row.choice() == v1::SALIENT_CHOICE_RANDOM) {
      name = absl::StrFormat("%.3g %% at random", 100 * format.share);
    }
    table.AddRow({name, absl::StrFormat("%.5f", row.score().perplexity()),
                  absl::StrFormat("%.6f", row.score().kl()),
                  absl::StrFormat("%.2f %%", 100 * row.score().top1_agreement()),
                  absl::StrFormat("%.6f", row.relative_output_error())});
  }
  const std::string group =
      format.group_size == -1 ? "a row" : absl::StrCat(format.group_size, " columns");
  return absl::StrCat(table.Render(), "\nthe others at ", format.bits, " bits, ",
                      format.symmetric ? "symmetric, " : "", "a scale for ", group, "\n");
}

std::string StudyJson(double seconds, const v1::Job& job) {
  const v1::Study& study = job.study();
  const StudiedFormat format = FormatOf(job.spec().study());
  JsonObject object;
  object.AddString("job", job.name());
  object.AddObject("source", JsonObject().AddNumber("perplexity", study.source().perplexity()));
  for (const v1::Study::Row& row : study.rows()) {
    object.AddObject(ChoiceText(row.choice()),
                     JsonObject()
                         .AddNumber("perplexity", row.score().perplexity())
                         .AddNumber("kl", row.score().kl())
                         .AddNumber("top1_agreement", row.score().top1_agreement())
                         .AddNumber("relative_error", row.relative_output_error()));
  }
  return object.AddNumber("salient_share", format.share)
      .AddInteger("bits", format.bits)
      .AddInteger("group_size", format.group_size)
      .AddBool("symmetric", format.symmetric)
      .AddInteger("tokens", study.source().token_count())
      .AddNumber("seconds", seconds)
      .Text();
}

}  // namespace salient::client
