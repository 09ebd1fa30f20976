// Reads config.json of a Hugging Face checkpoint: what all decoders have, and by the family's class
// what it alone has.
#ifndef SALIENT_CORE_CONFIG_MODEL_MODEL_CONFIG_H_
#define SALIENT_CORE_CONFIG_MODEL_MODEL_CONFIG_H_

#include <any>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/config/json.h"
#include "core/config/model/config_class.h"
#include "core/config/model/refusal.h"
#include "core/config/model/rope.h"
#include "core/config/quantization_config.h"
#include "core/tensor/dtype.h"

namespace salient {

struct ModelConfig {
  std::string source;  // Errors give the file this name.
  // It is e.g. "LlamaForCausalLM", or that of model_type if the file has none.
  std::string architecture;
  std::string model_type;  // It is e.g. "llama".
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;  // It divides num_attention_heads.
  int64_t head_dim = 0;             // It is even.
  int64_t vocab_size = 0;
  double rms_norm_eps = 0;  // It is that of any norm, whatever the class calls it.
  std::string activation;   // It is e.g. "silu".
  RopeConfig rope;
  std::optional<RopeConfig> local_rope;  // Layers that slide have it in place of the other.
  // It is false where the family does not ask for it, and so is mlp_bias.
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = false;
  // The checkpoint has a head unlike the embeddings though tie_word_embeddings is true. The config
  // does not say so: see HasOwnHead of core/model.
  bool own_head = false;
  std::optional<int64_t> max_position_embeddings;  // It is set if the file says so.
  // A query sees this many positions, its own included, in the layers that slide.
  std::optional<int64_t> sliding_window;
  std::vector<bool> sliding_layers;  // It stands by layer; empty if all layers are alike.
  std::optional<DType> dtype;        // The file says it of the weights; the tensors decide.
  std::optional<QuantizationConfig> quantization;
  std::any own;  // It holds what ConfigClass::read_own read.
  // These are fields that the engines' reader refuses, though their meaning is plain.
  std::vector<ConfigRefusal> refusals;

  // Returns whether logits are computed with the embeddings.
  bool TiesHead() const { return tie_word_embeddings && !own_head; }
  int64_t QueryHeadsPerKvHead() const { return num_attention_heads / num_key_value_heads; }
  bool Slides(int64_t layer) const {
    if (!sliding_window.has_value()) return false;
    return sliding_layers.empty() || sliding_layers[static_cast<size_t>(layer)];
  }
  std::optional<int64_t> WindowOf(int64_t layer) const {
    return Slides(layer) ? sliding_window : std::nullopt;
  }
  // Returns `own`, or what a config without any of its members has.
  template <class Own>
  Own OwnAs() const {
    const Own* value = std::any_cast<Own>(&own);
    return value != nullptr ? *value : Own();
  }
};

// Names what an architecture or model_type is expected to be: they are too many for an error.
inline constexpr absl::string_view kKnownFamilies =
    "one of those that `salient info --families` lists";

// Reads `json` as transformers does: what is left out is what one of `classes` says of the family,
// and what means nothing in a family is ignored. NaN and the like may stand in it: see
// JsonLimits::like_python.
//
// Errors name source, field, value and what was expected: INVALID_ARGUMENT for a missing field,
// a wrong type, a value out of range or two that contradict each other; UNIMPLEMENTED for an
// architecture, activation, rotary embedding or window that exists but not here. A
// quantization_config that exists but not here is no error yet: see QuantizationConfig::readable.
absl::StatusOr<ModelConfig> ParseModelConfig(absl::Span<const ConfigClass* const> classes,
                                             absl::string_view source, absl::string_view json);

// Reads the text of a config.json. Its errors are those of ParseJson; INVALID_ARGUMENT for what is
// no object.
absl::StatusOr<JsonValue> ParseConfigJson(absl::string_view source, absl::string_view json);

// Changes the object that `config` was parsed from so that engines take it and it says what
// `config` does: names that it lacks are added, refusals mended as far as they can be, and a head
// of its own is not called tied.
void MendConfig(const ModelConfig& config, JsonValue::Object& object);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_MODEL_MODEL_CONFIG_H_
