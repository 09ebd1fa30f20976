#include "core/config/model/config_class.h"

#include <array>

namespace salient {
namespace {

constexpr unsigned kOptionalInteger = kIntegerValue | kNullValue;
constexpr unsigned kIntegers = kIntegerValue | kArrayValue | kNullValue;
constexpr unsigned kNumber = kIntegerValue | kFloatValue;

constexpr ConfigKey kLlamaKeys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"head_dim", kOptionalInteger},
    {"hidden_act", kStringValue},
    {"max_position_embeddings", kIntegerValue},
    {"initializer_range", kFloatValue},
    {"rms_norm_eps", kFloatValue},
    {"use_cache", kBoolValue},
    {"pad_token_id", kOptionalInteger},
    {"bos_token_id", kOptionalInteger},
    {"eos_token_id", kIntegers},
    {"pretraining_tp", kOptionalInteger},
    {"tie_word_embeddings", kBoolValue},
    {"rope_parameters", kObjectValue | kNullValue},
    {"attention_bias", kBoolValue},
    {"attention_dropout", kNumber | kNullValue},
    {"mlp_bias", kBoolValue},
};

constexpr ConfigKey kMistralKeys[] = {
    {"num_key_value_heads", kIntegerValue},
    {"head_dim", kOptionalInteger},
    {"hidden_act", kStringValue},
    {"max_position_embeddings", kIntegerValue},
    {"initializer_range", kFloatValue},
    {"rms_norm_eps", kFloatValue},
    {"use_cache", kBoolValue},
    {"pad_token_id", kOptionalInteger},
    {"bos_token_id", kOptionalInteger},
    {"eos_token_id", kIntegers},
    {"tie_word_embeddings", kBoolValue},
    {"rope_parameters", kObjectValue | kNullValue},
    {"sliding_window", kOptionalInteger},
    {"attention_dropout", kNumber},
};

constexpr ConfigKey kQwen2Keys[] = {
    {"num_key_value_heads", kOptionalInteger},
    // The class has none, but the model takes a null for one.
    {"head_dim", kIntegerValue},
    {"hidden_act", kStringValue},
    {"max_position_embeddings", kIntegerValue},
    {"initializer_range", kFloatValue},
    {"rms_norm_eps", kFloatValue},
    {"use_cache", kBoolValue},
    {"pad_token_id", kOptionalInteger},
    {"bos_token_id", kOptionalInteger},
    {"eos_token_id", kIntegers},
    {"tie_word_embeddings", kBoolValue},
    {"rope_parameters", kObjectValue | kNullValue},
    {"use_sliding_window", kBoolValue},
    {"sliding_window", kOptionalInteger},
    {"max_window_layers", kIntegerValue},
    {"attention_dropout", kNumber},
};

ConfigClass Llama() {
  ConfigClass llama{"LlamaConfig", "llama", "LlamaForCausalLM", kLlamaKeys};
  llama.max_position_embeddings = 2048;
  llama.biases_by_config = true;
  llama.whole_heads = true;
  return llama;
}

ConfigClass Mistral() {
  ConfigClass mistral{"MistralConfig", "mistral", "MistralForCausalLM", kMistralKeys};
  mistral.num_key_value_heads = 8;
  mistral.max_position_embeddings = 131072;
  mistral.sliding_window = 4096;
  mistral.windows = WindowRule::kEveryLayer;
  return mistral;
}

ConfigClass Qwen2() {
  ConfigClass qwen2{"Qwen2Config", "qwen2", "Qwen2ForCausalLM", kQwen2Keys};
  qwen2.num_key_value_heads = 32;
  qwen2.max_position_embeddings = 32768;
  qwen2.sliding_window = 4096;
  qwen2.max_window_layers = 28;
  qwen2.windows = WindowRule::kByLayer;
  return qwen2;
}

}  // namespace

absl::Span<const ConfigClass> ConfigClasses() {
  static const auto* const classes = new std::array<ConfigClass, 3>{Llama(), Mistral(), Qwen2()};
  return *classes;
}

}  // namespace salient
