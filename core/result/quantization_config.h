// Writes what config.json says of each output format, so that engines know what they load.
#ifndef SALIENT_CORE_RESULT_QUANTIZATION_CONFIG_H_
#define SALIENT_CORE_RESULT_QUANTIZATION_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/config/json.h"
#include "core/model/model.h"
#include "core/pack/stored_format.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

// The object under quantization_config stands again in a file of its own, which readers of GPTQ
// look for.
inline constexpr char kQuantizeConfigName[] = "quantize_config.json";

// Describes a quantized Linear.
struct LinearFormat {
  std::string module;  // It is the full path.
  WeightFormat format;
};

// Returns the object under quantization_config; null for formats that are plain weights. `linears`
// are all quantized Linears of the model, `kept` the full paths of those that are not; both in the
// order of the model. Most of `linears` have the format of `stored`; where others differ in bits or
// group_size
//   gptq, gptq-v2        they stand under `dynamic`, by regular expressions of their full paths,
//   compressed-tensors   each format is a group of config_groups that lists its Linears,
//   others               INVALID_ARGUMENT naming the first, what it has and what can have it.
// Kept ones stand under modules_to_not_convert (awq), `dynamic` (gptq), or `ignore`, beside
// lm_head; in the first two also under the name of what engines fuse them into, as `fused` says,
// where all of it is kept.
absl::StatusOr<JsonValue> QuantizationConfigJson(const StoredFormat& stored,
                                                 absl::Span<const LinearFormat> linears,
                                                 absl::Span<const std::string> kept,
                                                 absl::Span<const FusedModules> fused);

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_QUANTIZATION_CONFIG_H_
