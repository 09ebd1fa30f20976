// Plans Gemma 2 (arXiv:2408.00118): norms of 1 + w around each mixer, soft caps, a window in every
// other layer.
#include <optional>
#include <utility>

#include "core/config/fields.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/families/gemma.h"
#include "core/model/model.h"

namespace salient {
namespace {

struct Gemma2Own {
  double query_scalar = 256;
  std::optional<double> score_cap = 50;
  std::optional<double> logit_cap = 30;
};

void ReadGemma2(const ConfigClass& /*config_class*/, ConfigFields& fields, ModelConfig& config) {
  Gemma2Own own;
  own.query_scalar = ReadGemmaScalar(fields);
  own.score_cap = ReadGemmaCap("attn_logit_softcapping", own.score_cap, fields);
  own.logit_cap = ReadGemmaCap("final_logit_softcapping", own.logit_cap, fields);
  config.own = own;
}

Model PlanGemma2(const ModelConfig& config) {
  const auto own = config.OwnAs<Gemma2Own>();
  Model model = PlanDecoder(config, [&](int64_t /*layer*/, BlockBuilder& block) {
    AttentionParts attention = GemmaAttention(config, own.query_scalar);
    attention.soft_cap = own.score_cap;
    block.AddAttention(attention);
    block.AddMlp(GemmaMlp(config));
  });
  model.logit_soft_cap = own.logit_cap;
  return AsGemma(std::move(model));
}

}  // namespace

Family Gemma2Family() {
  ConfigClass own{"Gemma2Config", "gemma2", "Gemma2ForCausalLM", GemmaKeys(), DecoderKeys()};
  own.num_key_value_heads = 4;
  own.head_dim = 256;
  own.max_position_embeddings = 8192;
  own.activation_field = "hidden_activation";
  own.activation = "gelu_pytorch_tanh";
  own.sliding_window = 4096;
  own.windows = WindowRule::kByPattern;
  own.window_pattern = 2;
  own.tie_word_embeddings = true;
  own.attention_bias_by_config = true;
  own.whole_heads = true;
  own.read_own = ReadGemma2;
  return {own, PlanGemma2};
}

}  // namespace salient
