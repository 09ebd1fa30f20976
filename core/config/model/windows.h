// Reads sliding windows as a config.json has them.
#ifndef SALIENT_CORE_CONFIG_MODEL_WINDOWS_H_
#define SALIENT_CORE_CONFIG_MODEL_WINDOWS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "core/config/fields.h"
#include "core/config/model/config_class.h"
#include "core/config/model/refusal.h"

namespace salient {

// Returns the window of all layers, nullopt if none has one. Records UNIMPLEMENTED where some have
// and some have not. Adds what transformers refuses to `refusals`.
std::optional<int64_t> ReadWindow(const ConfigClass& config_class, int64_t layers, int64_t head_dim,
                                  ConfigFields& fields, std::vector<ConfigRefusal>& refusals);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_WINDOWS_H_
