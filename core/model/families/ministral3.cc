// Plans the text models of Ministral 3: Mistral whose queries grow with their position.
#include "absl/strings/str_cat.h"
#include "core/config/fields.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kMinistral3Keys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"head_dim", kOptionalInteger},
    {"hidden_act", kStringValue},
    {"rms_norm_eps", kFloatValue},
    {"sliding_window", kOptionalInteger},
    {"attention_dropout", kNumber},
};

void ReadMinistral3(const ConfigClass& config_class, ConfigFields& fields, ModelConfig& config) {
  if (config.rope.query_beta != 0) return;
  fields.Invalid("rope_parameters", "without llama_4_scaling_beta",
                 absl::StrCat("one, by which ", config_class.name, " scales queries"));
}

Model PlanMinistral3(const ModelConfig& config) {
  return PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    block.AddAttention(LlamaAttention(config));
    block.AddMlp(LlamaMlp(config));
  });
}

}  // namespace

Family Ministral3Family() {
  ConfigClass own{"Ministral3Config", "ministral3", "Ministral3ForCausalLM", kMinistral3Keys,
                  DecoderKeys()};
  own.num_key_value_heads = 8;
  own.head_dim = 128;
  own.max_position_embeddings = 262144;
  own.epsilon = 1e-5;
  own.windows = WindowRule::kEveryLayer;
  own.query_scaling = true;
  own.read_own = ReadMinistral3;
  return {own, PlanMinistral3};
}

}  // namespace salient
