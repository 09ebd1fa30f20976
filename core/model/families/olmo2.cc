// Plans OLMo 2 (arXiv:2501.00656): norms of what mixers give, and of whole rows of queries and
// keys.
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/families/olmo.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kOlmo2Keys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"hidden_act", kStringValue},
    {"attention_bias", kBoolValue},
    {"attention_dropout", kNumber},
    {"rms_norm_eps", kFloatValue},
};

Model PlanOlmo2(const ModelConfig& config) {
  return PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    block.AddAttention(OlmoAttention(config));
    block.AddMlp(OlmoMlp(config));
  });
}

}  // namespace

Family Olmo2Family() {
  ConfigClass own{"Olmo2Config", "olmo2", "Olmo2ForCausalLM", kOlmo2Keys, DecoderKeys()};
  own.max_position_embeddings = 2048;
  own.epsilon = 1e-5;
  own.attention_bias_by_config = true;
  return {own, PlanOlmo2};
}

}  // namespace salient
