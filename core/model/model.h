// A model as everything above its files sees it: its config, its tensors by name and shape, and
// what each decoder block holds and computes.
#ifndef SALIENT_CORE_MODEL_MODEL_H_
#define SALIENT_CORE_MODEL_MODEL_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/config/model/rope.h"
#include "core/model/block_plan.h"

namespace salient {

// A tensor the model must have.
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
};

int64_t ElementsOf(const TensorSpec& spec);

// Describes a norm outside the blocks by its tensors.
struct OuterNorm {
  NormRule rule;
  std::string weight;  // It is [hidden_size].
  std::string bias;    // So is this; it is empty if there is none.
};

// Learned embeddings of positions: that of position p is row p + offset.
struct PositionTable {
  std::string name;  // It is [rows, hidden_size].
  int64_t rows = 0;
  int64_t offset = 0;
};

struct Model {
  ModelConfig config;
  // These are names of tensors outside the blocks.
  std::string embeddings;  // It is [vocab_size, embedding_size].
  int64_t embedding_size = 0;
  double embedding_multiplier = 1;
  std::optional<PositionTable> positions;
  // Each is a Linear's weight, [hidden_size, embedding_size] and [embedding_size, hidden_size]; it
  // is empty where the two sizes are one.
  std::string input_projection;
  std::string output_projection;
  std::optional<OuterNorm> final_norm;
  // It is [vocab_size, embedding_size], and not used when it is tied to the embeddings.
  std::string head;
  double logit_multiplier = 1;
  std::optional<double> logit_soft_cap;  // A logit becomes cap tanh(logit / cap).
  std::vector<RopeConfig> ropes;         // AttentionPlan::rope points into it.
  std::vector<BlockPlan> blocks;         // They stand by layer.

  // Returns the tensor that logits are computed with: the head, or the embeddings it is tied to.
  const std::string& HeadName() const { return config.TiesHead() ? embeddings : head; }
  // Returns how many Linears all blocks have.
  int64_t LinearCount() const;
  // Returns the paths of Linears outside the blocks beside the head, which stay as they are.
  std::vector<std::string> OuterLinears() const;
  // Returns the most tokens of a row, nullopt if the model sets no bound.
  std::optional<int64_t> MostTokens() const;
};

// Modules that engines ask for by one name, which is in no checkpoint.
struct FusedModules {
  std::string name;                // It is e.g. "model.layers.3.self_attn.qkv_proj".
  std::vector<std::string> parts;  // They are full paths.
};
std::vector<FusedModules> FusedModulesOf(const Model& model);

// Returns the tensors of one block, in the order of the forward pass.
std::vector<TensorSpec> BlockTensors(const BlockPlan& block);
// Returns those outside the blocks: embeddings first, the head last when it is not tied.
std::vector<TensorSpec> OuterTensors(const Model& model);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_MODEL_H_
