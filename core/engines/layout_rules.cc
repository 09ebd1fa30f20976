#include "core/engines/layout_rules.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/engines/engine.h"
#include "core/engines/processor.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

template <typename Value>
bool Has(absl::Span<const Value> values, Value value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// Returns "4", "4 or 8" or "-1, 32 or 64".
template <typename Value>
std::string OneOf(absl::Span<const Value> values) {
  if (values.size() == 1) return absl::StrCat(values[0]);
  return absl::StrCat(absl::StrJoin(values.subspan(0, values.size() - 1), ", "), " or ",
                      values.back());
}

template <typename Predicate>
bool AnyQuantized(const ModelDescription& model, Predicate holds) {
  return std::any_of(
      model.linears.begin(), model.linears.end(),
      [&](const LinearDescription& linear) { return linear.quantized && holds(linear.format); });
}

bool IsDue(When when, const ModelDescription& model) {
  switch (when) {
    case When::kAsymmetric:
      return AnyQuantized(model, [](const WeightFormat& format) { return !format.symmetric; });
    case When::kAsymmetric8Bit:
      return AnyQuantized(
          model, [](const WeightFormat& format) { return !format.symmetric && format.bits == 8; });
    case When::kWholeRows:
      return AnyQuantized(
          model, [](const WeightFormat& format) { return format.group_size == kWholeRow; });
    case When::kWholeTensors:
      return AnyQuantized(
          model, [](const WeightFormat& format) { return format.group_size == kWholeTensor; });
    case When::kStatic:
      return model.stored.activations == ActivationFormat::kStaticTensor;
    case When::kAlways:
      return true;
  }
  return false;
}

void CheckFormat(const LayoutRow& row, const LinearDescription& linear, Findings& findings) {
  const WeightFormat& format = linear.format;
  const auto wants = [&](absl::string_view field, const auto& value, const std::string& wanted) {
    return absl::StrCat(linear.module, ": ", field, " is ", value, "; ", findings.name(), " wants ",
                        wanted);
  };
  if (!Has(row.bits, format.bits)) {
    findings.Fault("bits", wants("bits", format.bits, OneOf(row.bits)));
  }
  if (!format.symmetric && !row.never.asymmetric.empty()) {
    findings.Fault("symmetric", absl::StrCat(linear.module, ": symmetric is false; ",
                                             findings.name(), " ", row.never.asymmetric));
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
void CheckGroupKind(const LayoutRow& row, const LinearDescription& linear, Findings& findings) {
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

// Returns "model.layers.0.mlp.down_proj: is [4096, 176] on a device".
std::string OnDevice(const DevicePart& part) {
  return absl::StrCat(part.name, ": is [", part.out_features, ", ", part.in_features,
                      "] on a device");
}

bool IsMarlinShape(const DevicePart& part) {
  return part.out_features % 64 == 0 && part.in_features % 128 == 0;
}

bool IsMarlinTiles(const DevicePart& part) {
  const int64_t out = part.out_features;
  const int64_t in = part.in_features;
  return (in % 128 == 0 && out % 64 == 0) || (in % 64 == 0 && out % 128 == 0);
}

void CheckMarlinTiles(const DevicePart& part, Findings& findings) {
  if (IsMarlinTiles(part)) return;
  findings.Fault("shape",
                 absl::StrCat(OnDevice(part), "; ", findings.name(),
                              " wants out_features a multiple of 64 and in_features of 128, or of "
                              "128 and 64"));
}

void CheckPadded(const DevicePart& part, Findings& findings) {
  if (!Has<int64_t>(kMarlinGroups, part.linear->format.group_size) || IsMarlinShape(part)) return;
  findings.Remark("kernel", absl::StrCat(OnDevice(part),
                                         "; pads that to multiples of 64 and 128, which is slower, "
                                         "and versions before that refuse it"));
}

// Checks for vLLM, which has a kernel of AWQ's own for what is not for Marlin's.
void CheckAwqOfVllm(const ModelDescription& model, const DevicePart& part, Findings& findings) {
  const int64_t group = part.linear->format.group_size;
  if (model.zero_point && Has<int64_t>(kMarlinGroups, group)) {
    CheckPadded(part, findings);
    return;
  }
  if (group > 0 && group % 32 == 0 && part.out_features % 64 == 0 &&
      part.out_features % group == 0) {
    findings.Remark("kernel", absl::StrCat(OnDevice(part), ", in groups of ", group,
                                           "; takes AWQ's own kernel, which wants float16, instead "
                                           "of Marlin's"));
    return;
  }
  findings.Fault("kernel",
                 absl::StrCat(part.name, ": group_size is ", group, ", out_features ",
                              part.out_features, " on a device; ", findings.name(),
                              " wants a group_size of -1, 32, 64 or 128 with zero_point true, or a "
                              "multiple of 32 that divides out_features, a multiple of 64"));
}

void CheckAwqOfSglang(const ModelDescription& model, const DevicePart& part, Findings& findings) {
  const int64_t group = part.linear->format.group_size;
  if (TakesAwqMarlin(model, group) && IsMarlinShape(part)) return;
  if (group > 0) return;  // Its other kernel takes them all.
  findings.Fault("kernel",
                 absl::StrCat(OnDevice(part), "; ", findings.name(),
                              " wants multiples of 64 and 128 with groups of whole rows"));
}

// Checks the order of columns. In gptq's groups of whole rows all share one scale, so it is free.
void CheckOrder(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  if (!model.act_order || row.never.act_order.empty()) return;
  const bool packed = row.layout == OutputFormat::kCompressedTensors;
  const bool grouped = AnyQuantized(
      model, [](const WeightFormat& format) { return format.group_size != kWholeRow; });
  const bool looks_at_groups = row.engine == Engine::kVllm || row.engine == Engine::kVllmCpu;
  if (!packed && looks_at_groups && !grouped) return;
  findings.Fault("act_order",
                 absl::StrCat(packed ? "actorder is \"group\"; " : "desc_act is true; ",
                              findings.name(), " ", row.never.act_order));
}

void CheckActivations(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  const auto fault = [&](absl::string_view are, absl::string_view why) {
    if (why.empty()) return;
    findings.Fault("activations",
                   absl::StrCat("activations are ", are, "; ", findings.name(), " ", why));
  };
  if (row.layout != OutputFormat::kIntQuantized) return;
  switch (model.stored.activations) {
    case ActivationFormat::kStaticTensor:
      return fault("static", row.never.static_activations);
    case ActivationFormat::kNone:
      return fault("not quantized", row.never.float_activations);
    case ActivationFormat::kDynamicToken:
      return;
  }
}

// 4 bit weights, and 8 bit ones with activations, go to kernels that are made for AVX-512.
void CheckProcessor(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  if (row.engine != Engine::kVllmCpu) return;
  if (AnyQuantized(model, [](const WeightFormat& format) { return format.bits == 4; })) {
    findings.Remark("processor", FourBitProcessorRemark(HasAvx512()));
  }
  if (row.layout == OutputFormat::kIntQuantized) {
    findings.Remark("processor",
                    "on x86 CPUs without AVX-512 it was seen to err with 8 bit activations: a "
                    "perplexity of 3.62 for 3.55");
  }
}

}  // namespace

bool TakesAwqMarlin(const ModelDescription& model, int64_t group_size) {
  return model.zero_point && !model.old_names && Has<int64_t>(kMarlinGroups, group_size);
}

void CheckFormats(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  for (const LinearDescription& linear : model.linears) {
    if (!linear.quantized) continue;
    CheckFormat(row, linear, findings);
    CheckGroupKind(row, linear, findings);
  }
  CheckOrder(row, model, findings);
  CheckActivations(row, model, findings);
  for (const LayoutRemark& remark : row.remarks) {
    if (IsDue(remark.when, model)) findings.Remark(remark.text, std::string(remark.text));
  }
  CheckProcessor(row, model, findings);
}

void CheckKernelShapes(const LayoutRow& row, const ModelDescription& model,
                       absl::Span<const DevicePart> parts, Findings& findings) {
  for (const DevicePart& part : parts) {
    if (!part.linear->quantized) continue;
    const WeightFormat& format = part.linear->format;
    const auto fault = [&](absl::string_view wanted) {
      findings.Fault("shape",
                     absl::StrCat(OnDevice(part), "; ", findings.name(), " wants ", wanted));
    };
    switch (row.shapes) {
      case KernelShapes::kAny:
        break;
      case KernelShapes::kPaddedMarlin:
        CheckPadded(part, findings);
        break;
      case KernelShapes::kAwqOfVllm:
        CheckAwqOfVllm(model, part, findings);
        break;
      case KernelShapes::kAwqOfSglang:
        CheckAwqOfSglang(model, part, findings);
        break;
      case KernelShapes::kMarlinTiles:
        CheckMarlinTiles(part, findings);
        break;
      case KernelShapes::kWhereMarlin:
        if ((format.symmetric || row.layout == OutputFormat::kAwqGemm) &&
            Has<int64_t>(kMarlinGroups, format.group_size) && format.bits % 4 == 0) {
          CheckMarlinTiles(part, findings);
        }
        break;
      case KernelShapes::kThirtyTwo:
        if (part.out_features % 32 != 0 || part.in_features % 32 != 0) fault("multiples of 32");
        break;
      case KernelShapes::kEight:
        if (part.out_features % 8 != 0) fault("out_features a multiple of 8");
        break;
    }
  }
}

}  // namespace salient
