// A model as everything above its files sees it: its config, its tensors by name and shape, and
// what each decoder block holds and computes.
#ifndef SALIENT_CORE_MODEL_MODEL_H_
#define SALIENT_CORE_MODEL_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"

namespace salient {

// A tensor the model must have.
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
};

struct Model {
  ModelConfig config;
  // These are names of tensors outside the blocks.
  std::string embeddings;  // It is [vocab_size, hidden_size].
  std::string final_norm;  // It is [hidden_size].
  // It is [vocab_size, hidden_size], and not used when it is tied to the embeddings.
  std::string head;
  std::vector<BlockPlan> blocks;  // They stand by layer.

  // Returns the tensor that logits are computed with: the head, or the embeddings it is tied to.
  const std::string& HeadName() const { return config.TiesHead() ? embeddings : head; }
  // Returns how many Linears all blocks have.
  int64_t LinearCount() const;
};

// Modules that engines ask for by one name, which is in no checkpoint.
struct FusedModules {
  std::string name;                // It is e.g. "model.layers.3.self_attn.qkv_proj".
  std::vector<std::string> parts;  // They are full paths.
};
std::vector<FusedModules> FusedModulesOf(const Model& model);

// Returns the tensors of one block, in the order of the forward pass.
std::vector<TensorSpec> BlockTensors(const BlockPlan& block);
// Returns those outside the blocks: embeddings, final norm, and the head when it is not tied.
std::vector<TensorSpec> OuterTensors(const Model& model);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_MODEL_H_
