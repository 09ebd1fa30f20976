// Says what a checkpoint is, and which engines load it.
#ifndef SALIENT_CORE_ENGINES_INSPECTION_H_
#define SALIENT_CORE_ENGINES_INSPECTION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/engines/engine_verdict.h"
#include "core/model/model.h"
#include "core/pack/stored_format.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

struct FormatCount {
  WeightFormat format;
  int64_t linears = 0;  // So many are stored in it.
};

struct Inspection {
  std::string architecture;
  std::string quant_method;  // It is empty if the model is not quantized.
  StoredFormat stored;       // It is that of most of its quantized Linears, if there are any.
  // The formats of its quantized Linears are sorted, that of most first.
  std::vector<FormatCount> formats;
  int64_t parameters = 0;
  int64_t bytes = 0;              // They are those of the tensors that the architecture has.
  int64_t quantized_linears = 0;  // They are those of the decoder blocks.
  int64_t plain_linears = 0;
  std::vector<EngineVerdict> engines;
};

// Looks at headers alone. Its errors are those of DescribeModel.
absl::StatusOr<Inspection> Inspect(const TensorSource& source, const Model& planned,
                                   absl::string_view config_json, int64_t tensor_parallel);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_INSPECTION_H_
