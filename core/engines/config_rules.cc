#include "core/engines/config_rules.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/engines/engine.h"
#include "core/engines/layout_rules.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

constexpr char kNotQuantized[] = ": is not quantized; ";

bool IsGptqLayout(const LayoutRow& row) {
  return row.layout == OutputFormat::kGptq || row.layout == OutputFormat::kGptqV2;
}

bool IsVllm(const LayoutRow& row) {
  return row.engine == Engine::kVllm || row.engine == Engine::kVllmCpu;
}

// Returns the name that engines give to what they fuse: "model.layers.0.self_attn.qkv_proj" for its
// q_proj.
const std::string& FusedName(const LinearDescription& linear) {
  return linear.fused_name.empty() ? linear.module : linear.fused_name;
}

// Entries of modules_to_not_convert are looked for inside of paths.
void CheckKeptByAwq(const LayoutRow& row, const ModelDescription& model,
                    const LinearDescription& linear, Findings& findings) {
  // SGLang asks by the name of what it fuses.
  const std::string path = row.engine == Engine::kSglang ? FusedName(linear) : linear.module;
  const bool said =
      std::any_of(model.skipped.begin(), model.skipped.end(),
                  [&path](const std::string& entry) { return absl::StrContains(path, entry); });
  if (said) return;
  // Without a list vLLM goes by the tensors that are there.
  if (IsVllm(row) && model.skipped.empty()) return;
  findings.Fault("kept", absl::StrCat(linear.module, kNotQuantized, findings.name(), " wants ",
                                      path, " in modules_to_not_convert"));
}

// transformers leaves GPTQ to optimum, which quantizes what modules_in_block_to_quantize names, in
// every block, and all Linears without such a list; it does not look at dynamic.
void CheckInBlockList(const LinearDescription& linear, Findings& findings) {
  if (linear.in_block_list.value_or(true) == linear.quantized) return;
  findings.Fault("kept", absl::StrCat(linear.module, ": is ",
                                      linear.quantized ? "quantized; " : "not quantized; ",
                                      findings.name(), " does not look at dynamic and wants ",
                                      linear.quantized ? "it in" : "it left out of",
                                      " modules_in_block_to_quantize, as in every block"));
}

void CheckKept(const LayoutRow& row, const ModelDescription& model, const LinearDescription& linear,
               Findings& findings) {
  const bool by_modules = row.layout == OutputFormat::kAwqGemm || IsGptqLayout(row);
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
  // Without a list vLLM goes by the tensors that are there.
  if (IsGptqLayout(row) && IsVllm(row) && !linear.in_block_list.value_or(false)) return;
  findings.Fault("kept",
                 absl::StrCat(linear.module, kNotQuantized, findings.name(), " wants that said in ",
                              IsGptqLayout(row) ? "dynamic" : "ignore"));
}

void CheckAwqFields(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  if (!model.zero_point && (row.engine == Engine::kVllmCpu || row.engine == Engine::kTgi)) {
    findings.Remark("zero_point",
                    "zero_point is false, so it takes all zero points to be 8 without a look at "
                    "qzeros");
  }
  if (row.engine == Engine::kLmdeploy && model.version != "gemm") {
    findings.Fault("version", absl::StrCat("quantization_config.version is \"", model.version,
                                           "\"; ", findings.name(), " wants \"gemm\""));
  }
  if (model.old_names && (row.engine == Engine::kTransformers || row.engine == Engine::kTgi)) {
    findings.Fault("names", absl::StrCat("quantization_config says w_bit and q_group_size; ",
                                         findings.name(), " wants bits and group_size"));
  }
}

void CheckGroupFields(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  const auto unknown = [&](const std::string& path) {
    findings.Fault("fields", absl::StrCat("quantization_config.", path,
                                          ": compressed-tensors has no such field, and ",
                                          findings.name(), " permits no others"));
  };
  const bool reads_groups = row.engine == Engine::kTransformers;
  const bool reads_arguments = reads_groups || IsVllm(row) || row.engine == Engine::kSglang;
  if (reads_arguments && !model.unknown_in_arguments.empty()) unknown(model.unknown_in_arguments);
  if (reads_groups && !model.unknown_in_group.empty()) unknown(model.unknown_in_group);
  if (row.engine == Engine::kLlamaCpp && model.config_groups > 1) {
    findings.Fault("groups",
                   absl::StrCat("quantization_config.config_groups has ", model.config_groups,
                                " groups; ", findings.name(), " wants one"));
  }
}

}  // namespace

void CheckKeptLinears(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  const bool by_list = row.engine == Engine::kTransformers && IsGptqLayout(row);
  for (const LinearDescription& linear : model.linears) {
    if (by_list) CheckInBlockList(linear, findings);
    if (!by_list && !linear.quantized) CheckKept(row, model, linear, findings);
  }
}

void CheckConfigFields(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  if (row.layout == OutputFormat::kAwqGemm) CheckAwqFields(row, model, findings);
  CheckGroupFields(row, model, findings);
}

void CheckDtype(const LayoutRow& row, const ModelDescription& model, Findings& findings) {
  const bool awq = row.layout == OutputFormat::kAwqGemm;
  const bool packed = row.layout == OutputFormat::kCompressedTensors;
  if (model.dtype == DType::kBF16) {
    if ((row.engine == Engine::kTgi && !packed && row.layout != OutputFormat::kIntQuantized) ||
        row.engine == Engine::kLmdeploy) {
      findings.Remark("dtype", "computes in float16 though config.json says bfloat16");
    }
    if (row.engine == Engine::kSglang && awq &&
        !TakesAwqMarlin(model, model.stored.format.group_size)) {
      findings.Fault("dtype",
                     absl::StrCat("config.json says bfloat16; ", findings.name(),
                                  " wants float16 (--dtype float16) for what its Marlin kernels do "
                                  "not take: another group_size than -1, 32, 64 or 128, zero_point "
                                  "false, or w_bit instead of bits"));
    }
  }
  if ((awq || IsGptqLayout(row)) && model.stored.format.scale_dtype == DType::kF32 &&
      row.engine == Engine::kTransformers) {
    findings.Remark("scale dtype", "scales are F32; GPTQModel's kernels have them F16 or BF16");
  }
}

}  // namespace salient
