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

// These are the bounds between which YaRN interpolates, in turns within the original positions.
struct YarnRopeScaling {
  double beta_fast = 32;
  double beta_slow = 1;
  bool truncate = true;  // The channels of the bounds are rounded outwards.
};

struct RopeConfig {
  enum class Type { kDefault, kLinear, kDynamic, kYarn, kLlama3, kLongRope };
  Type type = Type::kDefault;
  double theta = 0;
  int64_t head_dim = 0;
  double partial = 1;              // It is the share of a head's channels that turn.
  double factor = 1;               // kLinear, kDynamic and kYarn have it.
  int64_t positions = 0;           // kDynamic changes rows that are longer.
  int64_t original_positions = 0;  // kYarn and kLongRope have it, and query_beta counts by it.
  std::optional<YarnRopeScaling> yarn = {};
  std::optional<Llama3RopeScaling> llama3 = {};
  std::vector<double> short_factors = {};  // kLongRope divides frequencies by them ...
  std::vector<double> long_factors = {};   // ... or by them in rows beyond original_positions.
  double attention_factor = 1;             // Sines and cosines are multiplied by it.
  // Queries are multiplied by 1 + query_beta log(1 + floor(position / original_positions)).
  double query_beta = 0;

  // Returns the channels of a head that turn, an even number.
  int64_t RotaryDim() const {
    return static_cast<int64_t>(static_cast<double>(head_dim) * partial);
  }
};

struct RopeConfigs {
  RopeConfig global;
  std::optional<RopeConfig> local;  // Layers that slide have it in place of the other.
};

// Reads what engines read: rope_scaling, or rope_parameters where that is missing, null or empty;
// rope_theta inside of it or else beside it; rope_type or else type. Where the class has a
// local_rope_theta, rope_parameters may hold an object a kind of layer.
// original_max_position_embeddings beside it counts for more than inside, and where both are
// missing, max_position_embeddings stands for it. Adds what transformers refuses to `refusals`.
//
// Errors: as ParseModelConfig.
absl::StatusOr<RopeConfigs> ReadRopes(absl::string_view source, const ConfigClass& config_class,
                                      int64_t max_position_embeddings, int64_t head_dim,
                                      ConfigFields& fields, std::vector<ConfigRefusal>& refusals);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_ROPE_H_
