#include "core/engines/inspection.h"

#include "core/engines/describe_model.h"

namespace salient {

absl::StatusOr<Inspection> Inspect(const TensorSource& source, const ModelConfig& config,
                                   absl::string_view config_json, int64_t tensor_parallel) {
  const absl::StatusOr<DescribedModel> model = DescribeModel(source, config, config_json);
  if (!model.ok()) return model.status();
  Inspection inspection;
  inspection.architecture = model->architecture;
  inspection.quant_method = model->quant_method;
  inspection.stored = model->stored;
  inspection.parameters = model->parameters;
  inspection.bytes = model->bytes;
  for (const DescribedLinear& linear : model->linears) {
    ++(linear.quantized ? inspection.quantized_linears : inspection.plain_linears);
  }
  inspection.engines = JudgeEngines(*model, tensor_parallel);
  return inspection;
}

}  // namespace salient
