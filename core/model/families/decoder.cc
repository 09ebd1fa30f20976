#include "core/model/families/decoder.h"

#include <utility>

#include "core/model/block_plan.h"

namespace salient {

NormRule RmsRule(const ModelConfig& config) { return {NormRule::Kind::kRms, config.rms_norm_eps}; }

Model PlanDecoder(const ModelConfig& config,
                  absl::FunctionRef<void(int64_t layer, BlockBuilder& block)> add) {
  Model model;
  model.config = config;
  model.embeddings = "model.embed_tokens.weight";
  model.embedding_size = config.hidden_size;
  model.final_norm = {RmsRule(config), "model.norm.weight", ""};
  model.head = "lm_head.weight";
  model.ropes.push_back(config.rope);
  if (config.local_rope.has_value()) model.ropes.push_back(*config.local_rope);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    BlockBuilder block(config, layer, "model.layers.");
    add(layer, block);
    model.blocks.push_back(std::move(block).Build());
  }
  return model;
}

AttentionParts LlamaAttention(const ModelConfig& config) {
  AttentionParts parts;
  parts.norms = {RmsRule(config), "input_layernorm"};
  return parts;
}

MlpParts LlamaMlp(const ModelConfig& config) {
  MlpParts parts;
  parts.norms = {RmsRule(config), "post_attention_layernorm"};
  return parts;
}

}  // namespace salient
