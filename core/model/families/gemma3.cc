// Plans the text models of Gemma 3 (arXiv:2503.19786): Gemma 2 with norms of heads in place of the
// cap of scores, five layers with a window and a rotary embedding of their own before each one
// without.
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

struct Gemma3Own {
  double query_scalar = 256;
  std::optional<double> logit_cap;
};

void ReadGemma3(const ConfigClass& /*config_class*/, ConfigFields& fields, ModelConfig& config) {
  Gemma3Own own;
  own.query_scalar = ReadGemmaScalar(fields);
  own.logit_cap = ReadGemmaCap("final_logit_softcapping", own.logit_cap, fields);
  // attn_logit_softcapping means nothing here: no engine passes it on.
  config.own = own;
}

Model PlanGemma3(const ModelConfig& config) {
  const auto own = config.OwnAs<Gemma3Own>();
  Model model = PlanDecoder(config, [&](int64_t layer, BlockBuilder& block) {
    AttentionParts attention = GemmaAttention(config, own.query_scalar);
    attention.query_norm = "q_norm";
    attention.key_norm = "k_norm";
    attention.head_rule = GemmaRule(config);
    if (config.Slides(layer)) attention.rope = kLocalRope;
    block.AddAttention(attention);
    block.AddMlp(GemmaMlp(config));
  });
  model.logit_soft_cap = own.logit_cap;
  return AsGemma(std::move(model));
}

}  // namespace

Family Gemma3Family() {
  ConfigClass own{"Gemma3TextConfig", "gemma3_text", "Gemma3ForCausalLM", GemmaKeys(),
                  DecoderKeys()};
  own.num_key_value_heads = 4;
  own.head_dim = 256;
  own.max_position_embeddings = 131072;
  own.activation_field = "hidden_activation";
  own.activation = "gelu_pytorch_tanh";
  own.sliding_window = 4096;
  own.windows = WindowRule::kByPattern;
  own.window_pattern = 6;
  own.tie_word_embeddings = true;
  own.attention_bias_by_config = true;
  own.whole_heads = true;
  own.window_pattern_field = "sliding_window_pattern";
  own.rope_theta = 1e6;
  own.local_rope_theta = 10000;
  own.read_own = ReadGemma3;
  return {own, PlanGemma3};
}

}  // namespace salient
