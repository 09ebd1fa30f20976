#include "core/engines/module_rules.h"

#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/engines/device_parts.h"
#include "core/engines/engine.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

bool IsGptq(OutputFormat layout) {
  return layout == OutputFormat::kGptq || layout == OutputFormat::kGptqV2;
}

// Words a fault between a Linear and its sibling; empty if they agree.
std::string Difference(const LinearDescription& a, const LinearDescription& b) {
  if (a.quantized != b.quantized) {
    const auto word = [](bool quantized) { return quantized ? "quantized" : "not quantized"; };
    return absl::StrCat("is ", word(a.quantized), ", ", b.module, " is ", word(b.quantized));
  }
  if (!a.quantized) return "";
  const auto differs = [&](absl::string_view field, int64_t mine, int64_t other) {
    return absl::StrCat(field, " is ", mine, ", of ", b.module, " ", other);
  };
  if (a.format.bits != b.format.bits) return differs("bits", a.format.bits, b.format.bits);
  if (a.format.group_size != b.format.group_size) {
    return differs("group_size", a.format.group_size, b.format.group_size);
  }
  if (a.format.symmetric != b.format.symmetric) {
    return differs("symmetric", a.format.symmetric, b.format.symmetric);
  }
  return "";
}

}  // namespace

void CheckFusedSiblings(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  const bool fuses = SplitsLinears(row.engine);
  if (!fuses) return;
  // TurboMind decodes what it cannot fuse, but not of GPTQ.
  if (row.engine == Engine::kLmdeploy && !IsGptq(row.layout)) return;
  for (const LinearDescription& linear : model.linears) {
    const std::string difference = Difference(linear, model.linears[linear.first_sibling]);
    if (difference.empty()) continue;
    findings.Fault("fused", absl::StrCat(linear.module, ": ", difference, "; ", findings.name(),
                                         " fuses them and wants them alike"));
  }
}

void CheckMixedFormats(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  if (row.mixes == Mixes::kAll) return;
  const LinearDescription* first = nullptr;
  for (const LinearDescription& linear : model.linears) {
    if (!linear.quantized) continue;
    if (first == nullptr) first = &linear;
    LinearDescription compared = linear;
    if (row.mixes == Mixes::kGroupSizes) compared.format.group_size = first->format.group_size;
    const std::string difference = Difference(compared, *first);
    if (difference.empty()) continue;
    findings.Fault("mixed", absl::StrCat(linear.module, ": ", difference, "; ", findings.name(),
                                         " reads one format for all Linears of this layout"));
    return;
  }
}

}  // namespace salient
