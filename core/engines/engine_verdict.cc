#include "core/engines/engine_verdict.h"

#include "absl/strings/str_cat.h"
#include "core/engines/device_parts.h"
#include "core/engines/findings.h"
#include "core/engines/layout_rules.h"
#include "core/engines/layout_table.h"
#include "core/engines/module_rules.h"

namespace salient {

EngineVerdict JudgeEngine(Engine engine, const DescribedModel& model, int64_t tensor_parallel) {
  Findings findings(engine);
  const LayoutRow* row = model.quantized() ? FindLayoutRow(model.stored.output, engine) : nullptr;
  if (row != nullptr && model.quant_method.empty()) {
    findings.Fault("config", absl::StrCat("config.json says nothing of quantization; ",
                                          findings.name(), " wants quantization_config"));
    return findings.Take();
  }
  if (row != nullptr && !row->never.empty()) {
    findings.Fault("layout", absl::StrCat(findings.name(), " ", row->never));
    return findings.Take();
  }
  if (row != nullptr) {
    CheckFormats(*row, model, findings);
    CheckFusedSiblings(*row, model, findings);
    CheckMixedFormats(*row, model, findings);
    CheckKeptLinears(*row, model, findings);
    CheckConfig(*row, model, findings);
  }
  const std::vector<DevicePart> parts = PartsOnDevice(model, tensor_parallel, findings);
  if (row != nullptr) CheckKernelShapes(*row, parts, findings);
  if (engine == Engine::kSglang && model.stores_tied_head) {
    findings.Fault("head", absl::StrCat("lm_head.weight is stored although tie_word_embeddings is "
                                        "true; ",
                                        findings.name(), " wants it left out"));
  }
  if (tensor_parallel > 1 && !SplitsLinears(engine)) {
    findings.Remark("devices", "does not split Linears over devices");
  }
  return findings.Take();
}

std::vector<EngineVerdict> JudgeEngines(const DescribedModel& model, int64_t tensor_parallel) {
  std::vector<EngineVerdict> verdicts;
  for (const Engine engine : AllEngines()) {
    verdicts.push_back(JudgeEngine(engine, model, tensor_parallel));
  }
  return verdicts;
}

}  // namespace salient
