#include "client/report/job.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/options/enum_text.h"
#include "client/report/note_lines.h"
#include "client/report/tensors.h"
#include "client/terminal/errors.h"
#include "client/terminal/json_text.h"
#include "client/terminal/table.h"

namespace salient::client {
namespace {

constexpr size_t kMaxJobCellBytes = 128;

using Align = Table::Align;

int64_t KeptRtn(absl::Span<const v1::GroupReport> groups) {
  int64_t kept = 0;
  for (const v1::GroupReport& group : groups) {
    for (const v1::LinearReport& linear : group.linears()) kept += linear.kept_rtn() ? 1 : 0;
  }
  return kept;
}

int64_t LinearCount(absl::Span<const v1::GroupReport> groups) {
  int64_t count = 0;
  for (const v1::GroupReport& group : groups) count += group.linears_size();
  return count;
}

// Returns the most that folding a scale changed what a block computes; nullopt if none was folded.
std::optional<double> LargestFoldError(absl::Span<const v1::GroupReport> groups) {
  std::optional<double> largest;
  for (const v1::GroupReport& group : groups) {
    if (group.has_fold_error()) largest = std::max(largest.value_or(0), group.fold_error());
  }
  return largest;
}

size_t ResultCount(absl::Span<const v1::GroupReport> groups) {
  std::set<std::string> directories;
  for (const v1::GroupReport& group : groups) directories.insert(group.directory());
  return directories.size();
}

std::string TaskText(const v1::JobSpec& spec) {
  switch (spec.task_case()) {
    case v1::JobSpec::kQuantize:
      return "quantize";
    case v1::JobSpec::kCalibrate:
      return "calibrate";
    case v1::JobSpec::kEvaluate:
      return "evaluate";
    case v1::JobSpec::kStudy:
      return "study";
    case v1::JobSpec::kInspect:
      return "inspect";
    default:
      return "unknown";
  }
}

int64_t MissingBytes(const v1::Job& job) {
  int64_t bytes = 0;
  for (const v1::Digest& digest : job.missing()) bytes += digest.size_bytes();
  return bytes;
}

JsonObject EstimateObject(const v1::Estimate& estimate) {
  JsonObject object;
  object.AddNumber("seconds", estimate.seconds())
      .AddInteger("peak_rss_bytes", estimate.peak_memory_bytes())
      .AddNumber("flop", estimate.flop())
      .AddInteger("output_bytes", estimate.output_bytes());
  return object;
}

}  // namespace

double MeanLossRatio(absl::Span<const v1::GroupReport> groups) {
  double sum = 0;
  int64_t count = 0;
  for (const v1::GroupReport& group : groups) {
    if (!(group.loss_rtn() > 0)) continue;
    sum += group.loss() / group.loss_rtn();
    ++count;
  }
  return count > 0 ? sum / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
}

std::string QuantizeTable(const std::string& model, const std::string& output, double seconds,
                          const FinishedJob& outcome) {
  const v1::Usage& usage = outcome.job.usage();
  Table table({{"what", Align::kLeft}, {"value", Align::kLeft}});
  table.AddRow({"model", model});
  table.AddRow({"result", output});
  table.AddRow({"parameters", FormatCount(static_cast<double>(usage.parameters()))});
  table.AddRow({"bytes before", FormatBytes(usage.bytes_in())});
  const size_t results = ResultCount(outcome.groups);
  table.AddRow(
      {"bytes after", absl::StrCat(FormatBytes(usage.bytes_out()),
                                   results > 1 ? absl::StrCat(" in ", results, " results") : "")});
  table.AddRow({"time", FormatSeconds(seconds)});
  table.AddRow({"peak memory", FormatBytes(usage.peak_memory_bytes())});
  const double ratio = MeanLossRatio(outcome.groups);
  table.AddRow({"mean loss/RTN", std::isfinite(ratio) ? absl::StrFormat("%.3f", ratio) : "-"});
  if (const std::optional<double> error = LargestFoldError(outcome.groups); error.has_value()) {
    table.AddRow({"largest fold error", absl::StrFormat("%.2g", *error)});
  }
  // An older server does not count them.
  if (usage.linear_count() > 0) {
    table.AddRow({"quantized", absl::StrCat(usage.quantized_linear_count(), " of ",
                                            usage.linear_count(), " Linears")});
  }
  table.AddRow({"kept round-to-nearest", absl::StrCat(KeptRtn(outcome.groups), " of ",
                                                      LinearCount(outcome.groups), " Linears")});
  return table.Render() + NoteLines(outcome.groups);
}

std::string QuantizeJson(const std::string& output, double seconds, const FinishedJob& outcome) {
  const v1::Usage& usage = outcome.job.usage();
  std::vector<JsonObject> groups;
  for (const v1::GroupReport& group : outcome.groups) groups.push_back(GroupJson(group));
  return JsonObject()
      .AddString("job", outcome.job.name())
      .AddString("output", output)
      .AddInteger("parameters", usage.parameters())
      .AddInteger("bytes_in", usage.bytes_in())
      .AddInteger("bytes_out", usage.bytes_out())
      .AddNumber("seconds", seconds)
      .AddInteger("peak_rss_bytes", usage.peak_memory_bytes())
      .AddInteger("linears", usage.linear_count())
      .AddInteger("quantized_linears", usage.quantized_linear_count())
      .AddNumber("mean_loss_ratio", MeanLossRatio(outcome.groups))
      .AddObject("estimate", EstimateObject(outcome.job.estimate()))
      .AddStrings("warnings", outcome.warnings)
      .AddArray("groups", groups)
      .Text();
}

std::string EstimateTable(const std::string& model, const v1::Estimate& estimate,
                          const std::string& assumed) {
  Table table({{"what", Align::kLeft}, {"value", Align::kLeft}});
  table.AddRow({"model", model});
  if (!assumed.empty()) table.AddRow({"assumed", assumed});
  table.AddRow({"peak memory", FormatBytes(estimate.peak_memory_bytes())});
  table.AddRow({"time", FormatSeconds(estimate.seconds())});
  table.AddRow({"operations", absl::StrCat(FormatCount(estimate.flop()), " FLOP")});
  table.AddRow({"bytes after", FormatBytes(estimate.output_bytes())});
  return table.Render();
}

std::string EstimateJson(const EstimatedJob& estimated) {
  return EstimateObject(estimated.job.estimate()).AddStrings("warnings", estimated.warnings).Text();
}

std::string StateText(v1::JobState state) {
  const std::string text = EnumText(state);
  return text.empty() ? absl::StrCat("state ", static_cast<int>(state)) : text;
}

std::string JobsTable(absl::Span<const v1::Job> jobs) {
  Table table({{"job", Align::kLeft},
               {"state", Align::kLeft},
               {"task", Align::kLeft},
               {"created", Align::kLeft},
               {"took"},
               {"missing"},
               {"error", Align::kLeft}});
  for (const v1::Job& job : jobs) {
    const absl::Time created = absl::FromUnixSeconds(job.create_time().seconds());
    table.AddRow({Printable(job.name(), kMaxJobCellBytes), StateText(job.state()),
                  TaskText(job.spec()),
                  absl::FormatTime("%Y-%m-%d %H:%M:%S", created, absl::LocalTimeZone()),
                  FormatSeconds(job.usage().seconds()),
                  job.missing().empty() ? "-" : FormatBytes(MissingBytes(job)),
                  Printable(job.error().message(), kMaxJobCellBytes)});
  }
  return table.Render();
}

JsonObject JobJson(const v1::Job& job) {
  std::vector<JsonObject> files;
  for (const v1::ResultFile& file : job.files()) {
    files.push_back(JsonObject()
                        .AddString("name", file.name())
                        .AddString("sha256", file.digest().sha256())
                        .AddInteger("size_bytes", file.digest().size_bytes()));
  }
  JsonObject object;
  object.AddString("job", job.name())
      .AddString("state", StateText(job.state()))
      .AddString("task", TaskText(job.spec()))
      .AddInteger("revision", job.revision())
      .AddInteger("create_time", job.create_time().seconds())
      .AddNumber("seconds", job.usage().seconds())
      .AddInteger("parameters", job.usage().parameters())
      .AddInteger("bytes_in", job.usage().bytes_in())
      .AddInteger("bytes_out", job.usage().bytes_out())
      .AddInteger("peak_rss_bytes", job.usage().peak_memory_bytes())
      .AddInteger("missing_bytes", MissingBytes(job))
      .AddObject("estimate", EstimateObject(job.estimate()))
      .AddArray("files", files);
  if (job.state() == v1::JOB_STATE_FAILED) object.AddString("error", job.error().message());
  return object;
}

}  // namespace salient::client
