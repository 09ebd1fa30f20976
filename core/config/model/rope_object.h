// Reads one object of rotary parameters.
#ifndef SALIENT_CORE_CONFIG_MODEL_ROPE_OBJECT_H_
#define SALIENT_CORE_CONFIG_MODEL_ROPE_OBJECT_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/config/json.h"
#include "core/config/model/config_class.h"
#include "core/config/model/rope.h"

namespace salient {

inline constexpr double kMaxRopeTheta = 1e15;
inline constexpr char kOriginalPositions[] = "original_max_position_embeddings";

// Holds what an object inside of a config needs of what stands beside it.
struct RopeSurroundings {
  double theta = 0;
  double partial = 1;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  std::optional<int64_t> original_max_position_embeddings;
  bool truncate = true;
};

// Reads the object under `field`, which may be empty. Its errors are those of ReadRopes.
absl::StatusOr<RopeConfig> ReadRopeObject(absl::string_view source, absl::string_view field,
                                          const JsonValue& object, const ConfigClass& config_class,
                                          const RopeSurroundings& around);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_ROPE_OBJECT_H_
