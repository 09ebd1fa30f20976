// Plans Granite 3 and 4 (dense): Llama with factors of embeddings, scores, residuals and logits.
#include "core/config/fields.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kGraniteKeys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"hidden_act", kStringValue},
    {"rms_norm_eps", kFloatValue},
    {"attention_bias", kBoolValue},
    {"attention_dropout", kNumber},
    {"mlp_bias", kBoolValue},
    {"embedding_multiplier", kNumber},
    {"logits_scaling", kNumber},
    {"residual_multiplier", kNumber},
    {"attention_multiplier", kNumber},
};

struct GraniteOwn {
  double embedding = 1;
  double logits = 1;  // It divides them.
  double residual = 1;
  double attention = 1;
};

void ReadGranite(const ConfigClass& /*config_class*/, ConfigFields& fields, ModelConfig& config) {
  const auto read = [&](absl::string_view field) {
    return fields.Number(field, 1e-9, 1e9).value_or(1);
  };
  config.own = GraniteOwn{read("embedding_multiplier"), read("logits_scaling"),
                          read("residual_multiplier"), read("attention_multiplier")};
}

Model PlanGranite(const ModelConfig& config) {
  const auto own = config.OwnAs<GraniteOwn>();
  Model model = PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    AttentionParts attention = LlamaAttention(config);
    attention.input_bias = attention.output_bias = config.attention_bias;
    attention.scale = own.attention;
    attention.multiplier = own.residual;
    block.AddAttention(attention);
    MlpParts mlp = LlamaMlp(config);
    mlp.bias = config.mlp_bias;
    mlp.multiplier = own.residual;
    block.AddMlp(mlp);
  });
  model.embedding_multiplier = own.embedding;
  model.logit_multiplier = 1 / own.logits;
  return model;
}

}  // namespace

Family GraniteFamily() {
  ConfigClass own{"GraniteConfig", "granite", "GraniteForCausalLM", kGraniteKeys, DecoderKeys()};
  own.max_position_embeddings = 2048;
  own.attention_bias_by_config = true;
  own.mlp_bias_by_config = true;
  own.read_own = ReadGranite;
  return {own, PlanGranite};
}

}  // namespace salient
