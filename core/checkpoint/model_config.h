// config.json of a Hugging Face checkpoint, as far as a decoder of the Llama kind needs it.
#ifndef SALIENT_CORE_CHECKPOINT_MODEL_CONFIG_H_
#define SALIENT_CORE_CHECKPOINT_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/quantization_config.h"
#include "core/tensor/dtype.h"

namespace salient {

// Rotary frequencies of long-context Llama 3: wavelengths above original_max_position_embeddings
// / low_freq_factor are stretched by `factor`, those below .. / high_freq_factor are kept, and
// between the two the stretch is interpolated.
struct Llama3RopeScaling {
  double factor = 1;            // >= 1
  double low_freq_factor = 1;   // > 0
  double high_freq_factor = 4;  // > low_freq_factor
  int64_t original_max_position_embeddings = 0;
};

struct ModelConfig {
  std::string source;        // the name that errors give to the file
  std::string architecture;  // "LlamaForCausalLM"; which ones work is core/model's business
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;  // divides num_attention_heads
  int64_t head_dim = 0;             // even
  int64_t vocab_size = 0;
  double rms_norm_eps = 0;
  double rope_theta = 10000;
  std::optional<Llama3RopeScaling> llama3_rope;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = false;
  std::optional<int64_t> max_position_embeddings;
  // A query sees this many positions, its own included. Not set when use_sliding_window is false.
  std::optional<int64_t> sliding_window;
  std::optional<DType> dtype;  // what the file says of the weights; the tensors decide
  std::optional<QuantizationConfig> quantization;

  int64_t QueryHeadsPerKvHead() const { return num_attention_heads / num_key_value_heads; }
};

// Reads `json`. Fields that published checkpoints leave out have their usual meaning:
// num_key_value_heads = num_attention_heads, head_dim = hidden_size / num_attention_heads,
// rope_theta = 10000, hidden_act = silu, the biases and tie_word_embeddings false. Rotary
// parameters stand in rope_theta and rope_scaling or in rope_parameters; unknown fields are
// ignored.
//
// Errors name source, field, value and what was expected: INVALID_ARGUMENT for a missing field,
// a wrong type, a value out of range or two that contradict each other; UNIMPLEMENTED for an
// activation, rotary embedding or dtype that exists but not here. A quantization_config that exists
// but not here is no error yet: see QuantizationConfig::readable.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::string_view source, absl::string_view json);

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_MODEL_CONFIG_H_
