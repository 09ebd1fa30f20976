// Plans OLMo 3: OLMo 2 with a window in three of four layers, which keep the plain rotary
// embedding.
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/families/olmo.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kOlmo3Keys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"hidden_act", kStringValue},
    {"attention_bias", kBoolValue},
    {"attention_dropout", kNumber},
    {"rms_norm_eps", kFloatValue},
    {"sliding_window", kOptionalInteger},
    {"layer_types", kArrayValue | kNullValue},
};

Model PlanOlmo3(const ModelConfig& config) {
  return PlanDecoder(config, [&](int64_t layer, BlockBuilder& block) {
    AttentionParts attention = OlmoAttention(config);
    if (config.Slides(layer)) attention.rope = kLocalRope;
    block.AddAttention(attention);
    block.AddMlp(OlmoMlp(config));
  });
}

}  // namespace

Family Olmo3Family() {
  ConfigClass own{"Olmo3Config", "olmo3", "Olmo3ForCausalLM", kOlmo3Keys, DecoderKeys()};
  own.max_position_embeddings = 2048;
  own.epsilon = 1e-5;
  own.attention_bias_by_config = true;
  own.rope_theta = 500000;
  own.local_rope_theta = 500000;
  own.local_theta_field = "";
  own.sliding_window = 4096;
  own.windows = WindowRule::kByPattern;
  own.window_pattern = 4;
  return {own, PlanOlmo3};
}

}  // namespace salient
