#include "core/result/plain_dtypes.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"

namespace salient {

DType PlainDTypes::Of(absl::string_view tensor) const {
  const auto found = others.find(tensor);
  return found == others.end() ? model : found->second;
}

PlainDTypes PlainDTypesOf(const TensorSource& source, const Model& model) {
  PlainDTypes dtypes;
  dtypes.came_in_f32 = true;
  if (model.config.dtype == DType::kBF16) dtypes.config = DType::kBF16;
  std::map<std::string, DType, std::less<>> halves;
  const auto add = [&](const std::vector<TensorSpec>& specs) {
    for (const TensorSpec& spec : specs) {
      const absl::StatusOr<TensorLocation> found = source.Find(spec.name);
      if (!found.ok()) continue;
      const DType dtype = found->entry->dtype;
      if (dtype != DType::kF16 && dtype != DType::kBF16) continue;
      dtypes.came_in_f32 = false;
      if (dtype == DType::kBF16) dtypes.config = dtypes.model = DType::kBF16;
      halves.emplace(spec.name, dtype);
    }
  };
  add(OuterTensors(model));
  for (const BlockPlan& block : model.blocks) add(BlockTensors(block));
  for (auto& [name, dtype] : halves) {
    if (dtype != dtypes.model) dtypes.others.emplace(name, dtype);
  }
  return dtypes;
}

PlainDTypes PlainDTypesByConfig(const ModelConfig& config) {
  PlainDTypes dtypes;
  if (config.dtype == DType::kBF16) dtypes.config = dtypes.model = DType::kBF16;
  return dtypes;
}

}  // namespace salient
