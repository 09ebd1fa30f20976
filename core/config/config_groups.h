// The quantization_config of compressed-tensors: groups of modules with a format each.
#ifndef SALIENT_CORE_CONFIG_CONFIG_GROUPS_H_
#define SALIENT_CORE_CONFIG_CONFIG_GROUPS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/config/json.h"
#include "core/config/quantization_config.h"

namespace salient {

// This is where config.json has what is read here, as messages say it.
inline constexpr char kQuantizationConfigPath[] = "quantization_config.";
inline constexpr int64_t kMaxGroupSize = 1 << 20;

// Reads config_groups, ignore, format and what changes how a model computes into `config`, and what
// cannot be read into config.readable. Its errors are those of ParseQuantizationConfig.
absl::Status ReadConfigGroups(absl::string_view source, const JsonValue& object,
                              QuantizationConfig& config);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_CONFIG_GROUPS_H_
