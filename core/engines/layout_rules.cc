#include "core/engines/layout_rules.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace salient {
namespace {

template <typename Value>
bool Has(absl::Span<const Value> values, Value value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// "4", "4 or 8", "-1, 32 or 64".
template <typename Value>
std::string OneOf(absl::Span<const Value> values) {
  if (values.size() == 1) return absl::StrCat(values[0]);
  return absl::StrCat(absl::StrJoin(values.subspan(0, values.size() - 1), ", "), " or ",
                      values.back());
}

bool IsDue(When when, const DescribedModel& model) {
  const WeightFormat& format = model.stored.format;
  switch (when) {
    case When::kAsymmetric:
      return !format.symmetric;
    case When::kAsymmetric8Bit:
      return !format.symmetric && format.bits == 8;
    case When::kEightBit:
      return format.bits == 8;
    case When::kWholeRows:
      return format.group_size == kWholeRow;
    case When::kActOrder:
      return model.act_order;
    case When::kStatic:
      return model.stored.activations == ActivationFormat::kStaticTensor;
    case When::kAlways:
      return true;
  }
  return false;
}

void CheckFormat(const LayoutRow& row, const DescribedLinear& linear, Findings& findings) {
  const WeightFormat& format = linear.format;
  const auto wants = [&](absl::string_view field, const auto& value, const std::string& wanted) {
    return absl::StrCat(linear.module, ": ", field, " is ", value, "; ", findings.name(), " wants ",
                        wanted);
  };
  if (!Has(row.bits, format.bits)) {
    findings.Fault("bits", wants("bits", format.bits, OneOf(row.bits)));
  }
  if (!format.symmetric && !row.never_asymmetric.empty()) {
    findings.Fault("symmetric", absl::StrCat(linear.module, ": symmetric is false; ",
                                             findings.name(), " ", row.never_asymmetric));
  }
  if (!row.group_sizes.empty() && !Has(row.group_sizes, format.group_size)) {
    findings.Fault("group_size", wants("group_size", format.group_size, OneOf(row.group_sizes)));
  }
  if (!row.known_groups.empty() && !Has(row.known_groups, format.group_size)) {
    findings.Remark("group_size", wants("group_size", format.group_size,
                                        absl::StrCat(OneOf(row.known_groups),
                                                     " for its fast kernels; whether another takes "
                                                     "it is not known")));
  }
}

// One engine with several groups of compressed-tensors knows more of them than their sizes.
void CheckGroupKind(const LayoutRow& row, const DescribedLinear& linear, Findings& findings) {
  if (row.layout != OutputFormat::kCompressedTensors || linear.format.group_size > 0) return;
  const bool whole_tensor = linear.format.group_size == kWholeTensor;
  const bool no_rows = row.engine == Engine::kLlamaCpp;
  const bool no_tensors = no_rows || row.engine == Engine::kVllm ||
                          row.engine == Engine::kVllmCpu || row.engine == Engine::kSglang;
  if (!(whole_tensor ? no_tensors : no_rows)) return;
  findings.Fault("group_size",
                 absl::StrCat(linear.module, ": group_size is ", linear.format.group_size, "; ",
                              findings.name(), " wants ",
                              no_rows ? "a number of in_features" : "whole rows at most, -1"));
}

// Which kernel of vLLM's takes the part; AWQ has a second, slower one.
void CheckMarlin(const DevicePart& part, bool has_classic, Findings& findings) {
  const int64_t group = part.linear->format.group_size;
  const bool marlin_group = Has<int64_t>(kMarlinGroups, group);
  const bool classic = has_classic && group > 0 && group % 32 == 0 && part.out_features % 64 == 0 &&
                       part.out_features % group == 0;
  if (marlin_group && part.out_features % 64 == 0 && part.in_features % 128 == 0) return;
  if (classic) {
    findings.Remark("kernel", absl::StrCat(part.name, ": group_size is ", group, ", [",
                                           part.out_features, ", ", part.in_features,
                                           "] on a device; takes AWQ's classic kernel, which wants "
                                           "float16, instead of Marlin's"));
    return;
  }
  if (marlin_group) {
    findings.Remark("kernel",
                    absl::StrCat(part.name, ": is [", part.out_features, ", ", part.in_features,
                                 "] on a device; versions that do not pad want multiples "
                                 "of 64 and 128"));
    return;
  }
  if (!has_classic) return;  // what is not a group size of Marlin's was said before
  findings.Fault("kernel",
                 absl::StrCat(part.name, ": group_size is ", group, ", out_features ",
                              part.out_features, " on a device; ", findings.name(),
                              " wants a group_size of -1, 32, 64 or 128, or a multiple of 32 that "
                              "divides out_features, a multiple of 64"));
}

}  // namespace

void CheckFormats(const LayoutRow& row, const DescribedModel& model, Findings& findings) {
  for (const DescribedLinear& linear : model.linears) {
    if (!linear.quantized) continue;
    CheckFormat(row, linear, findings);
    CheckGroupKind(row, linear, findings);
  }
  if (model.act_order && !row.act_order) {
    findings.Fault("act_order", absl::StrCat("desc_act is true; ", findings.name(),
                                             " wants the columns of a group beside each other"));
  }
  for (const LayoutRemark& remark : row.remarks) {
    if (IsDue(remark.when, model)) findings.Remark(remark.text, std::string(remark.text));
  }
}

void CheckKernelShapes(const LayoutRow& row, absl::Span<const DevicePart> parts,
                       Findings& findings) {
  for (const DevicePart& part : parts) {
    if (!part.linear->quantized) continue;
    const int64_t out = part.out_features;
    const int64_t in = part.in_features;
    const auto fault = [&](absl::string_view wanted) {
      findings.Fault("shape", absl::StrCat(part.name, ": is [", out, ", ", in, "] on a device; ",
                                           findings.name(), " wants ", wanted));
    };
    switch (row.shapes) {
      case KernelShapes::kAny:
        break;
      case KernelShapes::kMarlin:
        CheckMarlin(part, /*has_classic=*/false, findings);
        break;
      case KernelShapes::kMarlinOrClassic:
        CheckMarlin(part, /*has_classic=*/true, findings);
        break;
      case KernelShapes::kMarlinTiles: {
        // Only what goes to that kernel.
        const WeightFormat& format = part.linear->format;
        const bool marlin = (format.symmetric || row.layout == OutputFormat::kAwqGemm) &&
                            Has<int64_t>(kMarlinGroups, format.group_size) && format.bits % 4 == 0;
        const bool tiles = (in % 128 == 0 && out % 64 == 0) || (in % 64 == 0 && out % 128 == 0);
        if (marlin && !tiles) {
          fault("out_features a multiple of 64 and in_features of 128, or of 128 and 64");
        }
        break;
      }
      case KernelShapes::kThirtyTwo:
        if (out % 32 != 0 || in % 32 != 0) fault("multiples of 32");
        break;
      case KernelShapes::kEight:
        if (out % 8 != 0) fault("out_features a multiple of 8");
        break;
    }
  }
}

}  // namespace salient
