#include "core/engines/inspection.h"

#include <algorithm>

#include "core/engines/describe_model.h"
#include "core/engines/model_description.h"
#include "core/tensor/affine_groups.h"

namespace salient {
namespace {

std::vector<FormatCount> CountFormats(const ModelDescription& model) {
  std::vector<FormatCount> counts;
  for (const LinearDescription& linear : model.linears) {
    if (!linear.quantized) continue;
    const WeightFormat& format = linear.format;
    const auto same = std::find_if(counts.begin(), counts.end(), [&](const FormatCount& count) {
      return count.format.bits == format.bits && count.format.group_size == format.group_size &&
             count.format.symmetric == format.symmetric;
    });
    if (same == counts.end()) {
      counts.push_back({format, 1});
    } else {
      ++same->linears;
    }
  }
  std::stable_sort(counts.begin(), counts.end(), [](const FormatCount& a, const FormatCount& b) {
    return a.linears > b.linears;
  });
  return counts;
}

}  // namespace

absl::StatusOr<Inspection> Inspect(const TensorSource& source, const Model& planned,
                                   absl::string_view config_json, int64_t tensor_parallel) {
  const absl::StatusOr<ModelDescription> model = DescribeModel(source, planned, config_json);
  if (!model.ok()) return model.status();
  Inspection inspection;
  inspection.architecture = model->architecture;
  inspection.quant_method = model->quant_method;
  inspection.stored = model->stored;
  inspection.formats = CountFormats(*model);
  if (!inspection.formats.empty()) inspection.stored.format = inspection.formats.front().format;
  inspection.parameters = model->parameters;
  inspection.bytes = model->bytes;
  for (const LinearDescription& linear : model->linears) {
    ++(linear.quantized ? inspection.quantized_linears : inspection.plain_linears);
  }
  inspection.engines = JudgeEngines(*model, tensor_parallel);
  return inspection;
}

}  // namespace salient
