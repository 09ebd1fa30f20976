// Tells what a config class of transformers says of its family: which types a member may have, and
// what it is when it is left out. Engines read config.json through these classes.
//
// A member of any class that is left out and not named here is false or, of sizes, an error.
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

// These are types that several members have.
inline constexpr unsigned kOptionalInteger = kIntegerValue | kNullValue;
inline constexpr unsigned kIntegers = kIntegerValue | kArrayValue | kNullValue;
inline constexpr unsigned kNumber = kIntegerValue | kFloatValue;

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
  // layer_types says it, or all but each window_pattern-th layer have it.
  kByPattern,
};

class ConfigFields;
struct ModelConfig;

struct ConfigClass {
  absl::string_view name;
  absl::string_view model_type;
  absl::string_view architecture;
  // They are those of the class, in two lists; others may be anything.
  absl::Span<const ConfigKey> keys;
  absl::Span<const ConfigKey> more_keys = {};
  // These are names of members that classes call differently, empty for what a class has not.
  absl::string_view intermediate_size_field = "intermediate_size";
  absl::string_view epsilon_field = "rms_norm_eps";
  absl::string_view activation_field = "hidden_act";
  // These are the values of fields that are left out.
  std::optional<int64_t> num_key_value_heads = {};  // nullopt stands for num_attention_heads.
  std::optional<int64_t> head_dim = {};             // nullopt: hidden_size / num_attention_heads
  int64_t max_position_embeddings = 0;
  double epsilon = 1e-6;
  double rope_theta = 10000;
  std::optional<int64_t> original_max_position_embeddings = {};
  std::optional<int64_t> sliding_window = {};
  int64_t max_window_layers = 0;
  int64_t window_pattern = 0;
  absl::string_view window_pattern_field = {};  // It is empty if the class has none.
  absl::string_view activation = "silu";
  bool tie_word_embeddings = false;
  WindowRule windows = WindowRule::kNoLayer;
  // This says whether layers that slide have a rotary embedding of their own, with this theta.
  std::optional<double> local_rope_theta = {};
  absl::string_view local_theta_field = "rope_local_base_freq";
  bool has_rope = true;
  bool layer_types_say_windows = true;
  // These say whether attention_bias, mlp_bias and partial_rotary_factor mean anything.
  bool attention_bias_by_config = false;
  bool mlp_bias_by_config = false;
  bool partial_rotary = false;
  bool query_scaling = false;  // llama_4_scaling_beta means something.
  // This says whether hidden_size must be a multiple of num_attention_heads even beside a head_dim.
  bool whole_heads = false;
  // Reads what no other class has, after all else, and may change what was read; nullptr if there
  // is nothing.
  void (*read_own)(const ConfigClass& config_class, ConfigFields& fields,
                   ModelConfig& config) = nullptr;
};

// Members that the classes of all decoders with a rotary embedding have, with these types.
absl::Span<const ConfigKey> DecoderKeys();

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_CONFIG_CLASS_H_
