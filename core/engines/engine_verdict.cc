#include "core/engines/engine_verdict.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/engines/architecture_rules.h"
#include "core/engines/config_rules.h"
#include "core/engines/device_parts.h"
#include "core/engines/findings.h"
#include "core/engines/layout_rules.h"
#include "core/engines/layout_table.h"
#include "core/engines/module_rules.h"

namespace salient {
namespace {

// vLLM's attention on CPUs is made for these.
constexpr int64_t kVllmCpuHeadDims[] = {32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512};

void CheckHeadDim(const ModelDescription& model, Findings& findings) {
  if (findings.engine() != Engine::kVllmCpu) return;
  const auto* end = std::end(kVllmCpuHeadDims);
  if (std::find(std::begin(kVllmCpuHeadDims), end, model.head_dim) != end) return;
  findings.Fault("head_dim", absl::StrCat("head_dim is ", model.head_dim, "; ", findings.name(),
                                          " wants one of ", absl::StrJoin(kVllmCpuHeadDims, ", ")));
}

}  // namespace

EngineVerdict JudgeEngine(Engine engine, const ModelDescription& model, int64_t tensor_parallel) {
  Findings findings(engine);
  CheckArchitecture(model, findings);
  const LayoutRow* row = model.quantized() ? FindLayoutRow(model.stored.output, engine) : nullptr;
  if (row != nullptr && model.quant_method.empty()) {
    findings.Fault("config", absl::StrCat("config.json says nothing of quantization; ",
                                          findings.name(), " wants quantization_config"));
    return findings.Take();
  }
  if (row != nullptr && !row->never.layout.empty()) {
    findings.Fault("layout", absl::StrCat(findings.name(), " ", row->never.layout));
    return findings.Take();
  }
  if (row != nullptr) {
    CheckFormats(*row, model, findings);
    CheckFusedSiblings(*row, model, findings);
    CheckMixedFormats(*row, model, findings);
    CheckKeptLinears(*row, model, findings);
    CheckConfigFields(*row, model, findings);
    CheckDtype(*row, model, findings);
  }
  // llama.cpp's converter reads what the class refuses by itself.
  if (!model.config_refusals.empty() && engine != Engine::kLlamaCpp) {
    findings.Fault("config class", model.config_refusals.front());
  }
  if (!model.model_refusals.empty() && engine == Engine::kTransformers) {
    findings.Fault("model class", model.model_refusals.front());
  }
  const bool keeps_head =
      engine == Engine::kVllm || engine == Engine::kVllmCpu || engine == Engine::kTransformers;
  if (model.own_head && !keeps_head) {
    findings.Remark("head",
                    "lm_head.weight differs from the embeddings although "
                    "tie_word_embeddings is true; it is not known which of the two is "
                    "used: tie_word_embeddings should be false");
  }
  const std::vector<DevicePart> parts = PartsOnDevice(model, tensor_parallel, findings);
  if (row != nullptr) CheckKernelShapes(*row, model, parts, findings);
  CheckHeadDim(model, findings);
  if (tensor_parallel > 1 && !SplitsLinears(engine)) {
    findings.Remark("devices", "does not split Linears over devices");
  }
  return findings.Take();
}

std::vector<EngineVerdict> JudgeEngines(const ModelDescription& model, int64_t tensor_parallel) {
  std::vector<EngineVerdict> verdicts;
  for (const Engine engine : AllEngines()) {
    verdicts.push_back(JudgeEngine(engine, model, tensor_parallel));
  }
  return verdicts;
}

}  // namespace salient
