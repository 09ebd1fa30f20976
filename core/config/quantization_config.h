// quantization_config of a model's config.json: how awq, gptq and compressed-tensors say which
// Linears are stored in which format.
#ifndef SALIENT_CORE_CONFIG_QUANTIZATION_CONFIG_H_
#define SALIENT_CORE_CONFIG_QUANTIZATION_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/config/json.h"
#include "core/config/module_targets.h"
#include "core/tensor/stored_format.h"

namespace salient {

// Modules that differ from the rest, or a group of compressed-tensors.
struct ModuleRule {
  ModuleTargets targets;
  std::optional<StoredFormat> format;  // nullopt says that it is not quantized.
};

struct QuantizationConfig {
  // It is "awq", "gptq" or "compressed-tensors"; of others all else is default.
  std::string quant_method;

  // These are of all Linears that no rule names, and of the first group of compressed-tensors.
  int64_t bits = 0;  // awq also calls it w_bit; 0 says that it was not said.
  // awq also calls it q_group_size; it may be kWholeRow or kWholeTensor; 0 says that it was not
  // said.
  int64_t group_size = 0;
  bool zero_point = true;  // If true the weights are asymmetric.
  std::string version;     // awq has "gemm"; it is in lower case.
  // gptq has its checkpoint_format, "gptq" unless said; others have "pack-quantized" ...
  std::string format = {};
  bool desc_act = false;  // In gptq groups are of columns by falling importance.
  ActivationFormat activations = ActivationFormat::kNone;

  // gptq ("dynamic") and compressed-tensors ("config_groups") have them, in this order.
  std::vector<ModuleRule> rules = {};
  ModuleTargets ignored = {};  // compressed-tensors calls it "ignore".

  // Returns UNIMPLEMENTED naming file, field, value and what was expected if weights stored like
  // this cannot be read here. Everything else in the config may be looked at all the same.
  absl::Status readable = {};

  // Returns how a Linear is stored if it is quantized; bits and group_size may be 0, not said.
  // nullopt: the config says that it is not. Whether it is, its tensors tell.
  std::optional<StoredFormat> FormatOf(absl::string_view module) const;
};

// Reads the object of this name in `source`'s JSON. Fields that it does not know are ignored.
//
// Errors name source, field, value and what was expected: INVALID_ARGUMENT for a method that is
// missing, and for a wrong type or a value out of range in a field of a method that it knows.
absl::StatusOr<QuantizationConfig> ParseQuantizationConfig(absl::string_view source,
                                                           const JsonValue& object);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_QUANTIZATION_CONFIG_H_
