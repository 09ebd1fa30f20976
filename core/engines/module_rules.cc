#include "core/engines/module_rules.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/engines/device_parts.h"
#include "core/result/fused_linears.h"

namespace salient {
namespace {

constexpr char kNotQuantized[] = ": is not quantized; ";

// The first of the Linears that this one is fused with, by role.
LinearRole FirstSibling(LinearRole role) {
  const FusedLinears* fused = FindFused(role);
  return fused == nullptr ? role : fused->first;
}

bool IsGptq(OutputFormat layout) {
  return layout == OutputFormat::kGptq || layout == OutputFormat::kGptqV2;
}

// Of a fault between a Linear and its sibling, the words; empty if they agree.
std::string Difference(const DescribedLinear& a, const DescribedLinear& b) {
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

// "model.layers.0.self_attn.qkv_proj" for its q_proj: the name that engines give to what they fuse.
std::string FusedName(const DescribedLinear& linear) {
  const FusedLinears* fused = FindFused(linear.role);
  if (fused == nullptr) return linear.module;
  return absl::StrCat(linear.module.substr(0, linear.module.rfind('.') + 1), fused->name);
}

bool AnyIsIn(const std::vector<std::string>& entries, absl::string_view path) {
  return std::any_of(entries.begin(), entries.end(),
                     [path](const std::string& entry) { return absl::StrContains(path, entry); });
}

// Entries of modules_to_not_convert are looked for inside of paths.
void CheckKeptByAwq(const LayoutRow& row, const DescribedModel& model,
                    const DescribedLinear& linear, Findings& findings) {
  // SGLang asks by the name of what it fuses.
  const std::string path = row.engine == Engine::kSglang ? FusedName(linear) : linear.module;
  if (AnyIsIn(model.skipped, path)) return;
  const bool derives = row.engine == Engine::kVllm || row.engine == Engine::kVllmCpu;
  if (derives && model.skipped.empty()) {
    findings.Remark("kept", absl::StrCat(linear.module, kNotQuantized,
                                         "modules_to_not_convert is "
                                         "empty: older versions want it there"));
    return;
  }
  findings.Fault("kept", absl::StrCat(linear.module, kNotQuantized, findings.name(), " wants ",
                                      path, " in modules_to_not_convert"));
}

void CheckKept(const LayoutRow& row, const DescribedModel& model, const DescribedLinear& linear,
               Findings& findings) {
  const bool by_modules = row.layout == OutputFormat::kAwqGemm || IsGptq(row.layout);
  if (row.engine == Engine::kTgi && by_modules) {
    findings.Fault("kept", absl::StrCat(linear.module, kNotQuantized,
                                        "tgi wants every Linear quantized: its Marlin loader "
                                        "ignores the list of those that are not"));
    return;
  }
  // These go by the tensors that are there.
  if (row.engine == Engine::kLmdeploy || row.engine == Engine::kLlamaCpp) return;
  if (row.layout == OutputFormat::kAwqGemm) {
    CheckKeptByAwq(row, model, linear, findings);
    return;
  }
  if (linear.said_plain) return;
  const bool derives = row.engine == Engine::kVllm || row.engine == Engine::kVllmCpu;
  if (IsGptq(row.layout) && derives) {
    findings.Remark("kept", absl::StrCat(linear.module, kNotQuantized,
                                         "older versions want that said in dynamic"));
    return;
  }
  findings.Fault("kept",
                 absl::StrCat(linear.module, kNotQuantized, findings.name(), " wants that said in ",
                              IsGptq(row.layout) ? "dynamic" : "ignore"));
}

}  // namespace

void CheckFusedSiblings(const LayoutRow& row, const DescribedModel& model, Findings& findings) {
  const bool fuses = SplitsLinears(row.engine);
  if (!fuses) return;
  // TurboMind decodes what it cannot fuse, but not of GPTQ.
  if (row.engine == Engine::kLmdeploy && !IsGptq(row.layout)) return;
  for (size_t block = 0; block + kLinearRoles <= model.linears.size(); block += kLinearRoles) {
    for (size_t i = 0; i < kLinearRoles; ++i) {
      const DescribedLinear& linear = model.linears[block + i];
      const auto first = static_cast<size_t>(FirstSibling(linear.role));
      const std::string difference = Difference(linear, model.linears[block + first]);
      if (difference.empty()) continue;
      findings.Fault("fused", absl::StrCat(linear.module, ": ", difference, "; ", findings.name(),
                                           " fuses them and wants them alike"));
    }
  }
}

void CheckMixedFormats(const LayoutRow& row, const DescribedModel& model, Findings& findings) {
  if (row.mixes) return;
  const DescribedLinear* first = nullptr;
  for (const DescribedLinear& linear : model.linears) {
    if (!linear.quantized) continue;
    if (first == nullptr) first = &linear;
    const std::string difference = Difference(linear, *first);
    if (difference.empty()) continue;
    findings.Fault("mixed", absl::StrCat(linear.module, ": ", difference, "; ", findings.name(),
                                         " reads one format for all Linears of this layout"));
    return;
  }
}

void CheckKeptLinears(const LayoutRow& row, const DescribedModel& model, Findings& findings) {
  for (const DescribedLinear& linear : model.linears) {
    if (!linear.quantized) CheckKept(row, model, linear, findings);
  }
}

void CheckConfig(const LayoutRow& row, const DescribedModel& model, Findings& findings) {
  if (row.layout == OutputFormat::kAwqGemm) {
    if (!model.zero_point && row.engine != Engine::kTransformers) {
      findings.Fault("zero_point",
                     absl::StrCat("quantization_config.zero_point is false; ", findings.name(),
                                  " wants true, for symmetric weights, too"));
    }
    if (row.engine == Engine::kLmdeploy && model.version != "gemm") {
      findings.Fault("version", absl::StrCat("quantization_config.version is \"", model.version,
                                             "\"; ", findings.name(), " wants \"gemm\""));
    }
  }
  const bool fp16_kernels = row.layout == OutputFormat::kAwqGemm || IsGptq(row.layout);
  if (fp16_kernels && model.dtype == DType::kBF16 &&
      (row.engine == Engine::kTgi || row.engine == Engine::kLmdeploy)) {
    findings.Remark("dtype", "computes in float16 though config.json says bfloat16");
  }
  if (fp16_kernels && model.stored.format.scale_dtype == DType::kF32 &&
      row.engine == Engine::kTransformers) {
    findings.Remark("scale dtype", "scales are F32; GPTQModel's kernels have them F16 or BF16");
  }
}

}  // namespace salient
