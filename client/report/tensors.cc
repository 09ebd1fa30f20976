#include "client/report/tensors.h"

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/report/note_lines.h"
#include "client/terminal/errors.h"
#include "client/terminal/json_text.h"
#include "client/terminal/table.h"

namespace salient::client {
namespace {

constexpr size_t kMaxGroupCellBytes = 64;

JsonObject LinearJson(const v1::LinearReport& linear) {
  return JsonObject()
      .AddString("name", linear.name())
      .AddInteger("out_features", linear.out_features())
      .AddInteger("in_features", linear.in_features())
      .AddNumber("loss_rtn", linear.loss_rtn())
      .AddNumber("loss", linear.loss())
      .AddNumber("relative_output_error", linear.relative_output_error())
      .AddNumber("relative_output_error_rtn", linear.relative_output_error_rtn())
      .AddNumber("clipped_share", linear.clipped_share())
      .AddNumber("saturated_zero_point_share", linear.saturated_zero_point_share())
      .AddBool("kept_rtn", linear.kept_rtn())
      .AddInteger("bytes_in", linear.bytes_in())
      .AddInteger("bytes_out", linear.bytes_out())
      .AddInteger("bits", linear.bits());
}

// A group kept round-to-nearest when all of its Linears did.
bool KeptRtn(const v1::GroupReport& report) {
  for (const auto& linear : report.linears()) {
    if (!linear.kept_rtn()) return false;
  }
  return !report.linears().empty();
}

}  // namespace

std::string RatioText(const v1::ScaleCandidate& candidate) {
  if (candidate.identity()) return "identity";
  if (candidate.smoothquant()) return absl::StrFormat("smoothquant %.4g", candidate.ratio());
  const std::string x = absl::StrFormat("x^%.4g", candidate.ratio());
  return candidate.weight_aware() ? absl::StrFormat("%s/w^%.4g", x, 1 - candidate.ratio()) : x;
}

std::string LossOverRtnText(const v1::GroupReport& report) {
  if (!(report.loss_rtn() > 0)) return "-";
  return absl::StrFormat("%.3f", report.loss() / report.loss_rtn());
}

int64_t BytesIn(const v1::GroupReport& report) {
  int64_t bytes = 0;
  for (const auto& linear : report.linears()) bytes += linear.bytes_in();
  return bytes;
}

int64_t BytesOut(const v1::GroupReport& report) {
  int64_t bytes = 0;
  for (const auto& linear : report.linears()) bytes += linear.bytes_out();
  return bytes;
}

std::string GroupTable(absl::Span<const v1::GroupReport> reports) {
  using Align = Table::Align;
  Table table({{"group", Align::kLeft},
               {"Linears"},
               {"ratio", Align::kLeft},
               {"loss RTN"},
               {"loss"},
               {"loss/RTN"},
               {"rel. error"},
               {"before"},
               {"after"},
               {"seconds"}});
  for (const v1::GroupReport& report : reports) {
    table.AddRow({Printable(report.name(), kMaxGroupCellBytes), absl::StrCat(report.linears_size()),
                  RatioText(report.candidate()), absl::StrFormat("%.4g", report.loss_rtn()),
                  absl::StrFormat("%.4g", report.loss()), LossOverRtnText(report),
                  absl::StrFormat("%.5f", report.relative_output_error()),
                  FormatBytes(BytesIn(report)), FormatBytes(BytesOut(report)),
                  absl::StrFormat("%.2f", report.seconds())});
  }
  return table.Render() + NoteLines(reports);
}

JsonObject GroupJson(const v1::GroupReport& report) {
  std::vector<std::string> names;
  std::vector<JsonObject> linears;
  for (const auto& linear : report.linears()) {
    names.push_back(linear.name());
    linears.push_back(LinearJson(linear));
  }
  const JsonObject candidate = JsonObject()
                                   .AddBool("identity", report.candidate().identity())
                                   .AddBool("weight_aware", report.candidate().weight_aware())
                                   .AddNumber("ratio", report.candidate().ratio())
                                   .AddBool("smoothquant", report.candidate().smoothquant());
  JsonObject object;
  object.AddString("name", report.name());
  if (!report.directory().empty()) object.AddString("directory", report.directory());
  object.AddStrings("linears", names)
      .AddObject("candidate", candidate)
      .AddString("ratio", RatioText(report.candidate()));
  if (report.has_fold_error()) object.AddNumber("fold_error", report.fold_error());
  return object.AddNumber("loss_rtn", report.loss_rtn())
      .AddNumber("loss", report.loss())
      .AddNumber("relative_output_error", report.relative_output_error())
      .AddNumber("relative_output_error_rtn", report.relative_output_error_rtn())
      .AddBool("exact_loss", report.exact_loss())
      .AddInteger("token_count", report.token_count())
      .AddInteger("row_count", report.row_count())
      .AddInteger("parameters", report.parameters())
      .AddInteger("bytes_in", BytesIn(report))
      .AddInteger("bytes_out", BytesOut(report))
      .AddNumber("seconds", report.seconds())
      .AddBool("kept_rtn", KeptRtn(report))
      .AddStrings("notes", report.notes())
      .AddString("numerics_id", report.numerics_id())
      .AddArray("linear_reports", linears);
}

std::string ResultJson(const std::string& output, double seconds,
                       absl::Span<const v1::GroupReport> reports) {
  int64_t parameters = 0;
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  std::vector<JsonObject> groups;
  for (const v1::GroupReport& report : reports) {
    parameters += report.parameters();
    bytes_in += BytesIn(report);
    bytes_out += BytesOut(report);
    groups.push_back(GroupJson(report));
  }
  return JsonObject()
      .AddString("output", output)
      .AddInteger("parameters", parameters)
      .AddInteger("bytes_in", bytes_in)
      .AddInteger("bytes_out", bytes_out)
      .AddNumber("seconds", seconds)
      .AddArray("groups", groups)
      .Text();
}

}  // namespace salient::client
