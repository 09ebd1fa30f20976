#include "client/report/inspection.h"

#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/options/engine.h"
#include "client/options/enum_text.h"
#include "client/terminal/errors.h"
#include "client/terminal/json_text.h"
#include "client/terminal/table.h"

namespace salient::client {
namespace {

using Align = Table::Align;

constexpr size_t kMaxFindingBytes = 256;
constexpr size_t kMaxReasonBytes = 512;
constexpr size_t kMaxVersionBytes = 32;

std::string ActivationsText(const v1::WeightFormat& format) {
  if (format.activations() == v1::ACTIVATION_FORMAT_UNSPECIFIED) return "none";
  return EnumText(format.activations());
}

std::string GroupSizeText(int64_t group_size) {
  if (group_size == -1) return "whole rows";
  if (group_size == -2) return "whole tensors";
  return absl::StrCat("group ", group_size);
}

// Returns "4 bit, group 128, asymmetric"; the last word is left out where headers do not tell.
std::string WeightsText(const v1::WeightFormat& format) {
  std::string text = absl::StrCat(format.bits(), " bit, ", GroupSizeText(format.group_size()));
  if (format.output_format() != v1::OUTPUT_FORMAT_AWQ_GEMM) {
    absl::StrAppend(&text, format.symmetric() ? ", symmetric" : ", asymmetric");
  }
  return text;
}

// Adds "awq-gemm, 4 bit, group 128", or "gptq, mixed" with a line a format below it.
void AddFormatRows(const v1::Inspection& inspection, Table& table) {
  if (!inspection.has_format()) return;
  const v1::WeightFormat& format = inspection.format();
  const bool mixed = inspection.formats_size() > 1;
  std::string text = absl::StrCat(EnumText(format.output_format()), ", ",
                                  mixed ? std::string("mixed") : WeightsText(format));
  if (format.activations() != v1::ACTIVATION_FORMAT_UNSPECIFIED) {
    absl::StrAppend(&text, ", activations ", ActivationsText(format));
  }
  table.AddRow({"format", text});
  if (!mixed) return;
  for (const v1::FormatCount& count : inspection.formats()) {
    table.AddRow({"", absl::StrCat(WeightsText(count.format()), ": ", count.linears(),
                                   count.linears() == 1 ? " Linear" : " Linears")});
  }
}

JsonObject FormatObject(const v1::WeightFormat& format) {
  JsonObject object;
  object.AddString("output_format", EnumText(format.output_format()))
      .AddInteger("bits", format.bits())
      .AddInteger("group_size", format.group_size())
      .AddBool("symmetric", format.symmetric())
      .AddString("activations", ActivationsText(format));
  return object;
}

}  // namespace

std::string InspectionTable(const std::string& model, const v1::Inspection& inspection) {
  Table what({{"what", Align::kLeft}, {"value", Align::kLeft}});
  what.AddRow({"model", model});
  what.AddRow({"architecture", Printable(inspection.architecture(), kMaxFindingBytes)});
  what.AddRow({"quantized by", inspection.quant_method().empty()
                                   ? "nothing"
                                   : Printable(inspection.quant_method(), kMaxFindingBytes)});
  AddFormatRows(inspection, what);
  what.AddRow({"parameters", FormatCount(static_cast<double>(inspection.parameters()))});
  what.AddRow({"bytes", FormatBytes(inspection.bytes())});
  what.AddRow({"quantized Linears",
               absl::StrCat(inspection.quantized_linears(), " of ",
                            inspection.quantized_linears() + inspection.plain_linears())});
  Table engines({{"engine", Align::kLeft},
                 {"as of", Align::kLeft},
                 {"loads", Align::kLeft},
                 {"why not, or what to mind", Align::kLeft}});
  for (const v1::EngineVerdict& verdict : inspection.engines()) {
    const auto reason = [&verdict](int i) {
      return i < verdict.reasons_size() ? Printable(verdict.reasons(i), kMaxReasonBytes)
                                        : std::string();
    };
    engines.AddRow({EngineText(verdict.engine()), Printable(verdict.version(), kMaxVersionBytes),
                    verdict.loads() ? "yes" : "no", reason(0)});
    for (int i = 1; i < verdict.reasons_size(); ++i) engines.AddRow({"", "", "", reason(i)});
  }
  return absl::StrCat(what.Render(), "\n", engines.Render());
}

std::string InspectionJson(const std::string& model, const v1::Inspection& inspection) {
  std::vector<JsonObject> engines;
  for (const v1::EngineVerdict& verdict : inspection.engines()) {
    engines.push_back(JsonObject()
                          .AddString("engine", EngineText(verdict.engine()))
                          .AddString("version", verdict.version())
                          .AddBool("loads", verdict.loads())
                          .AddStrings("reasons", verdict.reasons()));
  }
  JsonObject object;
  object.AddString("model", model)
      .AddString("architecture", inspection.architecture())
      .AddString("quant_method", inspection.quant_method());
  if (inspection.has_format()) {
    std::vector<JsonObject> formats;
    for (const v1::FormatCount& count : inspection.formats()) {
      formats.push_back(FormatObject(count.format()).AddInteger("linears", count.linears()));
    }
    object.AddObject("format", FormatObject(inspection.format())).AddArray("formats", formats);
  }
  return object.AddInteger("parameters", inspection.parameters())
      .AddInteger("bytes", inspection.bytes())
      .AddInteger("quantized_linears", inspection.quantized_linears())
      .AddInteger("plain_linears", inspection.plain_linears())
      .AddArray("engines", engines)
      .Text();
}

}  // namespace salient::client
