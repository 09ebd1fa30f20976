// Plans Qwen 2 and 2.5 (arXiv:2407.10671): Llama with biases of queries, keys and values.
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kQwen2Keys[] = {
    {"num_key_value_heads", kOptionalInteger},
    // The class has none, but the model takes a null for one.
    {"head_dim", kIntegerValue},
    {"hidden_act", kStringValue},
    {"rms_norm_eps", kFloatValue},
    {"use_sliding_window", kBoolValue},
    {"sliding_window", kOptionalInteger},
    {"max_window_layers", kIntegerValue},
    {"attention_dropout", kNumber},
};

Model PlanQwen2(const ModelConfig& config) {
  return PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    AttentionParts attention = LlamaAttention(config);
    attention.input_bias = true;
    block.AddAttention(attention);
    block.AddMlp(LlamaMlp(config));
  });
}

}  // namespace

Family Qwen2Family() {
  ConfigClass own{"Qwen2Config", "qwen2", "Qwen2ForCausalLM", kQwen2Keys, DecoderKeys()};
  own.num_key_value_heads = 32;
  own.max_position_embeddings = 32768;
  own.sliding_window = 4096;
  own.max_window_layers = 28;
  own.windows = WindowRule::kByLayer;
  return {own, PlanQwen2};
}

}  // namespace salient
