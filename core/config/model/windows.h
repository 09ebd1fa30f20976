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

struct SlidingWindows {
  std::optional<int64_t> size;  // It is nullopt if no layer has a window.
  std::vector<bool> layers;     // It stands by layer; empty if all layers are alike.
};

// Returns the windows of `layers` layers. Adds what transformers refuses to `refusals`.
SlidingWindows ReadWindows(const ConfigClass& config_class, int64_t layers, int64_t head_dim,
                           ConfigFields& fields, std::vector<ConfigRefusal>& refusals);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_WINDOWS_H_
