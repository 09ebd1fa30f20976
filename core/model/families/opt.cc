// Plans OPT (Zhang et al., arXiv:2205.01068), the model of the AWQ paper: layer norms with biases,
// learned positions, ReLU without a gate.
#include <string>
#include <utility>

#include "core/config/fields.h"
#include "core/config/model/config_class.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"
#include "core/model/families/block_builder.h"
#include "core/model/families/decoder.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient {
namespace {

constexpr ConfigKey kOptKeys[] = {
    {"max_position_embeddings", kIntegerValue},
    {"do_layer_norm_before", kBoolValue},
    {"_remove_final_layer_norm", kBoolValue},
    {"word_embed_proj_dim", kOptionalInteger},
    {"dropout", kNumber},
    {"attention_dropout", kNumber},
    {"activation_function", kStringValue},
    {"layerdrop", kNumber},
    {"init_std", kFloatValue},
    {"use_cache", kBoolValue},
    {"pad_token_id", kOptionalInteger},
    {"bos_token_id", kOptionalInteger},
    {"eos_token_id", kIntegers},
    {"enable_bias", kBoolValue},
    {"layer_norm_elementwise_affine", kBoolValue},
    {"tie_word_embeddings", kBoolValue},
};

struct OptOwn {
  bool norm_before = true;
  bool no_final_norm = false;
  bool bias = true;
  int64_t embedding_size = 0;  // 0 stands for hidden_size.
  int64_t positions = 2048;
};

void ReadOpt(const ConfigClass& config_class, ConfigFields& fields, ModelConfig& config) {
  OptOwn own;
  own.norm_before = fields.Bool("do_layer_norm_before").value_or(true);
  own.no_final_norm = fields.Bool("_remove_final_layer_norm").value_or(false);
  own.bias = fields.Bool("enable_bias").value_or(true);
  own.embedding_size = fields.Integer("word_embed_proj_dim", 1, 1 << 20).value_or(0);
  own.positions = config.max_position_embeddings.value_or(config_class.max_position_embeddings);
  // Nobody has positions beyond the table.
  config.max_position_embeddings = own.positions;
  if (!fields.Bool("layer_norm_elementwise_affine").value_or(true)) {
    fields.Unsupported("layer_norm_elementwise_affine", "false", "true: norms with weights");
  }
  config.own = own;
}

Model PlanOpt(const ModelConfig& config) {
  const auto own = config.OwnAs<OptOwn>();
  const NormRule rule = {NormRule::Kind::kLayer, config.rms_norm_eps};
  const std::string decoder = "model.decoder.";
  Model model;
  model.config = config;
  model.embeddings = decoder + "embed_tokens.weight";
  model.embedding_size = own.embedding_size == 0 ? config.hidden_size : own.embedding_size;
  // The first rows were meant for padding.
  constexpr int64_t kOffset = 2;
  model.positions = {decoder + "embed_positions.weight", own.positions + kOffset, kOffset};
  if (model.embedding_size != config.hidden_size) {
    model.input_projection = decoder + "project_in.weight";
    model.output_projection = decoder + "project_out.weight";
  }
  if (own.norm_before && !own.no_final_norm) {
    model.final_norm = {rule, decoder + "final_layer_norm.weight",
                        decoder + "final_layer_norm.bias"};
  }
  model.head = "lm_head.weight";
  const auto norms = [&](const char* path) {
    return own.norm_before ? NormPaths{rule, path} : NormPaths{rule, "", "", path};
  };
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    BlockBuilder block(config, layer, decoder + "layers.");
    AttentionParts attention;
    attention.norms = norms("self_attn_layer_norm");
    attention.output = "out_proj";
    attention.input_bias = attention.output_bias = own.bias;
    attention.rope.reset();
    block.AddAttention(attention);
    MlpParts mlp;
    mlp.norms = norms("final_layer_norm");
    mlp.path = "";
    mlp.gate = "";
    mlp.up = "fc1";
    mlp.down = "fc2";
    mlp.bias = own.bias;
    mlp.activation = Activation::kRelu;
    block.AddMlp(mlp);
    model.blocks.push_back(std::move(block).Build());
  }
  return model;
}

}  // namespace

Family OptFamily() {
  ConfigClass own{"OPTConfig", "opt", "OPTForCausalLM", kOptKeys};
  own.intermediate_size_field = "ffn_dim";
  own.epsilon_field = "";
  own.activation_field = "activation_function";
  own.activation = "relu";
  own.max_position_embeddings = 2048;
  own.epsilon = 1e-5;
  own.tie_word_embeddings = true;
  own.has_rope = false;
  own.read_own = ReadOpt;
  return {own, PlanOpt};
}

}  // namespace salient
