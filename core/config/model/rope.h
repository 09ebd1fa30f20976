// Reads the rotary position embedding of a config.json.
#ifndef SALIENT_CORE_CONFIG_MODEL_ROPE_H_
#define SALIENT_CORE_CONFIG_MODEL_ROPE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/config/fields.h"
#include "core/config/model/config_class.h"
#include "core/config/model/refusal.h"

namespace salient {

// These are the rotary frequencies of long-context Llama 3: wavelengths above
// original_max_position_embeddings / low_freq_factor are stretched by `factor`, those below .. /
// high_freq_factor are kept, and between the two the stretch is interpolated.
struct Llama3RopeScaling {
  double factor = 1;            // It is at least 1.
  double low_freq_factor = 1;   // It is above 0.
  double high_freq_factor = 4;  // It is above low_freq_factor.
  int64_t original_max_position_embeddings = 0;
};

// This is the most that a config may say of positions.
inline constexpr int64_t kMaxPositions = int64_t{1} << 32;

struct RopeConfig {
  double theta = 0;
  std::optional<Llama3RopeScaling> llama3;
};

// Reads what engines read: rope_scaling, or rope_parameters where that is missing, null or empty;
// rope_theta inside of it or else beside it; rope_type or else type.
// original_max_position_embeddings beside it counts for more than inside, and where both are
// missing, max_position_embeddings stands for it. Adds what transformers refuses to `refusals`.
//
// Errors: as ParseModelConfig.
absl::StatusOr<RopeConfig> ReadRope(absl::string_view source, const ConfigClass& config_class,
                                    int64_t max_position_embeddings, ConfigFields& fields,
                                    std::vector<ConfigRefusal>& refusals);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_ROPE_H_
