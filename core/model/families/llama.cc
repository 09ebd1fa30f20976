// Plans Llama 1 to 3 (Touvron et al., arXiv:2302.13971) and what shares its config.
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kLlamaKeys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"head_dim", kOptionalInteger},
    {"hidden_act", kStringValue},
    {"rms_norm_eps", kFloatValue},
    {"pretraining_tp", kOptionalInteger},
    {"attention_bias", kBoolValue},
    {"attention_dropout", kNumber | kNullValue},
    {"mlp_bias", kBoolValue},
};

Model PlanLlama(const ModelConfig& config) {
  return PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    AttentionParts attention = LlamaAttention(config);
    attention.input_bias = attention.output_bias = config.attention_bias;
    block.AddAttention(attention);
    MlpParts mlp = LlamaMlp(config);
    mlp.bias = config.mlp_bias;
    block.AddMlp(mlp);
  });
}

}  // namespace

Family LlamaFamily() {
  ConfigClass own{"LlamaConfig", "llama", "LlamaForCausalLM", kLlamaKeys, DecoderKeys()};
  own.max_position_embeddings = 2048;
  own.attention_bias_by_config = true;
  own.mlp_bias_by_config = true;
  own.whole_heads = true;
  return {own, PlanLlama};
}

}  // namespace salient
