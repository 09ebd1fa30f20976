// Plans LFM2: short convolutions in most layers, attention with norms of heads in the others.
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/fields.h"
#include "core/config/json.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kLfm2Keys[] = {
    {"num_key_value_heads", kIntegerValue},
    {"norm_eps", kFloatValue},
    {"conv_bias", kBoolValue},
    {"conv_L_cache", kIntegerValue},
    {"block_multiple_of", kIntegerValue},
    {"block_ffn_dim_multiplier", kNumber},
    {"block_auto_adjust_ff_dim", kBoolValue},
    {"full_attn_idxs", kArrayValue | kNullValue},
    {"layer_types", kArrayValue | kNullValue},
};

struct Lfm2Own {
  std::vector<bool> attends;  // It says by layer whether there is attention.
  int64_t length = 3;
  bool conv_bias = false;
};

// Returns by layer whether there is attention.
std::vector<bool> ReadAttends(int64_t layers, ConfigFields& fields) {
  std::vector<bool> attends(static_cast<size_t>(layers), false);
  if (const JsonValue* types = fields.Value("layer_types"); types != nullptr) {
    const JsonValue::Array* list = types->AsArray();
    if (list == nullptr || static_cast<int64_t>(list->size()) != layers) {
      fields.Invalid("layer_types", types->Describe(),
                     absl::StrCat("a list of ", layers, " strings"));
      return attends;
    }
    for (size_t i = 0; i < attends.size(); ++i) {
      const std::string* type = (*list)[i].AsString();
      attends[i] = type != nullptr && *type == "full_attention";
      if (attends[i] || (type != nullptr && *type == "conv")) continue;
      fields.Unsupported(absl::StrCat("layer_types[", i, "]"), (*list)[i].Describe(),
                         "\"full_attention\" or \"conv\"");
    }
    return attends;
  }
  const JsonValue* indices = fields.Value("full_attn_idxs");
  if (indices == nullptr) return std::vector<bool>(static_cast<size_t>(layers), true);
  const JsonValue::Array* list = indices->AsArray();
  for (size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const std::optional<int64_t> layer = (*list)[i].AsInt64();
    if (layer.has_value() && *layer >= 0 && *layer < layers) {
      attends[static_cast<size_t>(*layer)] = true;
    } else {
      list = nullptr;
    }
  }
  if (list == nullptr) {
    fields.Invalid("full_attn_idxs", indices->Describe(),
                   absl::StrCat("a list of layers from 0 to ", layers - 1));
  }
  return attends;
}

// Returns the width between up and down: two thirds of what is said, made a multiple, unless the
// config says not to adjust it.
int64_t ReadWidth(ConfigFields& fields) {
  constexpr int64_t kMost = 1 << 20;
  int64_t width = fields.Integer("intermediate_size", 1, kMost).value_or(12288);
  width = fields.Integer("block_ff_dim", 1, kMost).value_or(width);
  if (!fields.Bool("block_auto_adjust_ff_dim").value_or(true)) return width;
  width = 2 * width / 3;
  if (fields.IsNull("block_ffn_dim_multiplier")) return width;
  const double factor = fields.Number("block_ffn_dim_multiplier", 1e-6, 1e3).value_or(1);
  const int64_t multiple = fields.Integer("block_multiple_of", 1, kMost).value_or(256);
  width = static_cast<int64_t>(factor * static_cast<double>(width));
  width = (width + multiple - 1) / multiple * multiple;
  if (width >= 1 && width <= kMost) return width;
  fields.Invalid("block_ffn_dim_multiplier", absl::StrCat(factor),
                 absl::StrCat("one that makes 1 to ", kMost, " channels, not ", width));
  return 1;
}

void ReadLfm2(const ConfigClass& /*config_class*/, ConfigFields& fields, ModelConfig& config) {
  Lfm2Own own;
  own.attends = ReadAttends(config.num_hidden_layers, fields);
  own.length = fields.Integer("conv_L_cache", 1, 64).value_or(own.length);
  own.conv_bias = fields.Bool("conv_bias").value_or(false);
  config.own = own;
  config.intermediate_size = ReadWidth(fields);
  config.tie_word_embeddings = fields.Bool("tie_embedding").value_or(config.tie_word_embeddings);
}

Model PlanLfm2(const ModelConfig& config) {
  const auto own = config.OwnAs<Lfm2Own>();
  Model model = PlanDecoder(config, [&](int64_t layer, BlockBuilder& block) {
    const NormPaths norms = {RmsRule(config), "operator_norm"};
    const auto index = static_cast<size_t>(layer);
    if (index < own.attends.size() && !own.attends[index]) {
      ShortConvolutionParts convolution;
      convolution.norms = norms;
      convolution.bias = own.conv_bias;
      convolution.length = own.length;
      block.AddShortConvolution(convolution);
    } else {
      AttentionParts attention;
      attention.norms = norms;
      attention.output = "out_proj";
      attention.query_norm = "q_layernorm";
      attention.key_norm = "k_layernorm";
      attention.head_rule = RmsRule(config);
      block.AddAttention(attention);
    }
    MlpParts mlp;
    mlp.norms = {RmsRule(config), "ffn_norm"};
    mlp.path = "feed_forward.";
    mlp.gate = "w1";
    mlp.up = "w3";
    mlp.down = "w2";
    mlp.fused_by_engines = "w13";
    block.AddMlp(mlp);
  });
  model.final_norm->weight = "model.embedding_norm.weight";
  return model;
}

}  // namespace

Family Lfm2Family() {
  ConfigClass own{"Lfm2Config", "lfm2", "Lfm2ForCausalLM", kLfm2Keys, DecoderKeys()};
  own.intermediate_size_field = "";
  own.epsilon_field = "norm_eps";
  own.activation_field = "";
  own.num_key_value_heads = 8;
  own.max_position_embeddings = 128000;
  own.epsilon = 1e-5;
  own.rope_theta = 1e6;
  own.tie_word_embeddings = true;
  own.layer_types_say_windows = false;
  own.read_own = ReadLfm2;
  return {own, PlanLfm2};
}

}  // namespace salient
