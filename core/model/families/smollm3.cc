// Plans SmolLM3: Llama with layers that know no positions.
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/fields.h"
#include "core/config/json.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/config/model/rope.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kSmolLm3Keys[] = {
    {"num_key_value_heads", kOptionalInteger},
    {"hidden_act", kStringValue},
    {"rms_norm_eps", kFloatValue},
    {"use_sliding_window", kBoolValue},
    {"sliding_window", kOptionalInteger},
    {"no_rope_layers", kArrayValue | kNullValue},
    {"no_rope_layer_interval", kIntegerValue},
    {"layer_types", kArrayValue | kNullValue},
    {"attention_bias", kBoolValue},
    {"attention_dropout", kNumber},
    {"mlp_bias", kBoolValue},
};

struct SmolLm3Own {
  std::vector<bool> turns;  // It says by layer whether there is a rotary embedding.
};

// Returns by layer whether queries and keys turn: as a list of 0 and 1 says, or all but each n-th.
std::vector<bool> ReadTurns(int64_t layers, ConfigFields& fields) {
  std::vector<bool> turns;
  const JsonValue* value = fields.Value("no_rope_layers");
  if (value == nullptr) {
    const int64_t interval = fields.Integer("no_rope_layer_interval", 1, 1 << 20).value_or(4);
    for (int64_t layer = 0; layer < layers; ++layer) turns.push_back((layer + 1) % interval != 0);
    return turns;
  }
  const JsonValue::Array* list = value->AsArray();
  for (size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const std::optional<int64_t> turn = (*list)[i].AsInt64();
    if (!turn.has_value() || *turn < 0 || *turn > 1) break;
    turns.push_back(*turn == 1);
  }
  if (static_cast<int64_t>(turns.size()) != layers) {
    fields.Invalid("no_rope_layers", value->Describe(),
                   absl::StrCat("a list of ", layers, " times 0 or 1, one a layer"));
  }
  return turns;
}

void ReadSmolLm3(const ConfigClass& /*config_class*/, ConfigFields& fields, ModelConfig& config) {
  SmolLm3Own own;
  own.turns = ReadTurns(config.num_hidden_layers, fields);
  const std::optional<int64_t> window = fields.Integer("sliding_window", 1, kMaxPositions);
  const bool slides = fields.Bool("use_sliding_window").value_or(false) && window.has_value();
  if (slides && fields.status().ok()) {
    const JsonValue* types = fields.Value("layer_types");
    const JsonValue::Array* list = types != nullptr ? types->AsArray() : nullptr;
    config.sliding_window = window;
    for (size_t layer = 0; layer < own.turns.size(); ++layer) {
      const std::string* type =
          list != nullptr && layer < list->size() ? (*list)[layer].AsString() : nullptr;
      config.sliding_layers.push_back(
          list != nullptr ? type != nullptr && *type == "sliding_attention" : !own.turns[layer]);
    }
  }
  config.own = own;
}

Model PlanSmolLm3(const ModelConfig& config) {
  const auto own = config.OwnAs<SmolLm3Own>();
  return PlanDecoder(config, [&](int64_t layer, BlockBuilder& block) {
    AttentionParts attention = LlamaAttention(config);
    attention.input_bias = attention.output_bias = config.attention_bias;
    const auto index = static_cast<size_t>(layer);
    if (index < own.turns.size() && !own.turns[index]) attention.rope.reset();
    block.AddAttention(attention);
    MlpParts mlp = LlamaMlp(config);
    mlp.bias = config.mlp_bias;
    block.AddMlp(mlp);
  });
}

}  // namespace

Family SmolLm3Family() {
  ConfigClass own{"SmolLM3Config", "smollm3", "SmolLM3ForCausalLM", kSmolLm3Keys, DecoderKeys()};
  own.num_key_value_heads = 4;
  own.max_position_embeddings = 32768;
  own.rope_theta = 2e6;
  own.tie_word_embeddings = true;
  own.attention_bias_by_config = true;
  own.mlp_bias_by_config = true;
  own.read_own = ReadSmolLm3;
  return {own, PlanSmolLm3};
}

}  // namespace salient
