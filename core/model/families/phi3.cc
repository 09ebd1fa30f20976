// Plans Phi-3 and Phi-4 (arXiv:2404.14219): Llama whose Linears of one input are stored as one.
#include "absl/strings/str_cat.h"
#include "core/config/fields.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/config/model/rope.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kPhi3Keys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"resid_pdrop", kNumber},
    {"embd_pdrop", kNumber},
    {"attention_dropout", kNumber},
    {"hidden_act", kStringValue},
    {"original_max_position_embeddings", kIntegerValue},
    {"rms_norm_eps", kFloatValue},
    {"sliding_window", kOptionalInteger},
};

void ReadPhi3(const ConfigClass& config_class, ConfigFields& fields, ModelConfig& config) {
  const RopeConfig::Type type = config.rope.type;
  if (type == RopeConfig::Type::kDefault || type == RopeConfig::Type::kLongRope) return;
  fields.Unsupported("rope_scaling", "of another type",
                     absl::StrCat("\"longrope\", or nothing: transformers' ", config_class.name,
                                  " refuses others"));
}

Model PlanPhi3(const ModelConfig& config) {
  return PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    AttentionParts attention = LlamaAttention(config);
    attention.fused = "qkv_proj";
    block.AddAttention(attention);
    MlpParts mlp = LlamaMlp(config);
    mlp.fused = "gate_up_proj";
    block.AddMlp(mlp);
  });
}

}  // namespace

Family Phi3Family() {
  ConfigClass own{"Phi3Config", "phi3", "Phi3ForCausalLM", kPhi3Keys, DecoderKeys()};
  own.max_position_embeddings = 4096;
  own.original_max_position_embeddings = 4096;
  own.epsilon = 1e-5;
  own.windows = WindowRule::kEveryLayer;
  own.partial_rotary = true;
  own.read_own = ReadPhi3;
  return {own, PlanPhi3};
}

}  // namespace salient
