// Plans Qwen3 (arXiv:2505.09388): Llama with a norm of each head of queries and keys.
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kQwen3Keys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"head_dim", kIntegerValue},
    {"hidden_act", kStringValue},
    {"rms_norm_eps", kFloatValue},
    {"attention_bias", kBoolValue},
    {"use_sliding_window", kBoolValue},
    {"sliding_window", kOptionalInteger},
    {"max_window_layers", kIntegerValue},
    {"layer_types", kArrayValue | kNullValue},
    {"attention_dropout", kNumber},
};

Model PlanQwen3(const ModelConfig& config) {
  return PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    AttentionParts attention = LlamaAttention(config);
    attention.input_bias = attention.output_bias = config.attention_bias;
    attention.query_norm = "q_norm";
    attention.key_norm = "k_norm";
    attention.head_rule = RmsRule(config);
    block.AddAttention(attention);
    block.AddMlp(LlamaMlp(config));
  });
}

}  // namespace

Family Qwen3Family() {
  ConfigClass own{"Qwen3Config", "qwen3", "Qwen3ForCausalLM", kQwen3Keys, DecoderKeys()};
  own.num_key_value_heads = 32;
  own.head_dim = 128;
  own.max_position_embeddings = 32768;
  own.sliding_window = 4096;
  own.max_window_layers = 28;
  own.windows = WindowRule::kByLayer;
  own.attention_bias_by_config = true;
  return {own, PlanQwen3};
}

}  // namespace salient
