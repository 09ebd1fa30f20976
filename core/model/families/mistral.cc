// Plans Mistral 7B and its successors (Jiang et al., arXiv:2310.06825): Llama without a bias.
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kMistralKeys[] = {
    {"num_key_value_heads", kIntegerValue}, {"head_dim", kOptionalInteger},
    {"hidden_act", kStringValue},           {"rms_norm_eps", kFloatValue},
    {"sliding_window", kOptionalInteger},   {"attention_dropout", kNumber},
};

Model PlanMistral(const ModelConfig& config) {
  return PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    block.AddAttention(LlamaAttention(config));
    block.AddMlp(LlamaMlp(config));
  });
}

}  // namespace

Family MistralFamily() {
  ConfigClass own{"MistralConfig", "mistral", "MistralForCausalLM", kMistralKeys, DecoderKeys()};
  own.num_key_value_heads = 8;
  own.max_position_embeddings = 131072;
  own.sliding_window = 4096;
  own.windows = WindowRule::kEveryLayer;
  return {own, PlanMistral};
}

}  // namespace salient
