// Tells what transformers' config classes say of each family: which types a member may have, and
// what it is when it is left out. Engines read config.json through these classes.
#ifndef SALIENT_CORE_CONFIG_MODEL_CONFIG_CLASS_H_
#define SALIENT_CORE_CONFIG_MODEL_CONFIG_CLASS_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace salient {

// These types of JSON values are flags to be added up.
enum ConfigType : unsigned {
  kNullValue = 1,
  kBoolValue = 2,
  kIntegerValue = 4,
  kFloatValue = 8,  // It is a number with a fraction or an exponent.
  kStringValue = 16,
  kArrayValue = 32,
  kObjectValue = 64,
};

struct ConfigKey {
  absl::string_view name;
  unsigned types = 0;  // They are values of ConfigType.
};

// The rule says which layers sliding_window is for.
enum class WindowRule {
  kNoLayer,
  kEveryLayer,  // layer_types says which have it, where there is one.
  // If use_sliding_window is true, layer_types says which have it, or all from max_window_layers
  // on.
  kByLayer,
};

struct ConfigClass {
  absl::string_view name;
  absl::string_view model_type;
  absl::string_view architecture;
  absl::Span<const ConfigKey> keys;  // They are those of the class; others may be anything.
  // These are the values of fields that are left out.
  std::optional<int64_t> num_key_value_heads = {};  // nullopt stands for num_attention_heads.
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<int64_t> sliding_window = {};
  int64_t max_window_layers = 0;
  WindowRule windows = WindowRule::kNoLayer;
  // This says whether attention_bias and mlp_bias mean anything.
  bool biases_by_config = false;
  // This says whether hidden_size must be a multiple of num_attention_heads even beside a head_dim.
  bool whole_heads = false;
};

// Returns all known classes. For other members left out, head_dim is hidden_size /
// num_attention_heads, hidden_act silu, biases, use_sliding_window, tie_word_embeddings false.
absl::Span<const ConfigClass> ConfigClasses();

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_CONFIG_CLASS_H_
