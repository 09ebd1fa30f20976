// Describes a checkpoint by its headers and its config.
#ifndef SALIENT_CORE_ENGINES_DESCRIBE_MODEL_H_
#define SALIENT_CORE_ENGINES_DESCRIBE_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/engines/model_description.h"
#include "core/model/model.h"
#include "core/result/quantized_checkpoint.h"

namespace salient {

// Returns the Linears of all blocks, none of them quantized.
std::vector<LinearDescription> DescribeLinears(const Model& model);

// Looks at headers alone. `config_json` is the text that the model's config was parsed from.
//
// Errors: as OpenQuantizedSource and CheckModelTensors: they name file, tensor, dtype
// or shape, and what was expected.
absl::StatusOr<ModelDescription> DescribeModel(const TensorSource& source, const Model& model,
                                               absl::string_view config_json);

// Describes what a plan will make, as if it were there; of its first `blocks` decoder blocks, 0 for
// all. Errors: INVALID_ARGUMENT for a plan whose config cannot be read.
absl::StatusOr<ModelDescription> DescribePlan(const QuantizedCheckpointPlan& plan, int64_t blocks);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_DESCRIBE_MODEL_H_
