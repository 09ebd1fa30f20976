// Describes a decoder block as lists: its Linears and vectors, the groups of Linears that read one
// tensor, what the scale of that tensor folds into, and what the block computes.
//
// A group is every reader of its tensor. Linears, vectors and groups are named by their places in
// the lists, so that a block may have any number of them.
#ifndef SALIENT_CORE_MODEL_BLOCK_PLAN_H_
#define SALIENT_CORE_MODEL_BLOCK_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace salient {

struct LinearShape {
  int64_t out_features = 0;
  int64_t in_features = 0;
  bool has_bias = false;
};

// This says which features engines share out among devices.
enum class DeviceSplit {
  kOutputs,
  kKeyValueHeads,  // Outputs have a copy of each head where there are more devices than heads.
  kInputs,
};

struct LinearPlan {
  std::string path;  // It lies in the block: "self_attn.q_proj".
  std::string name;  // It is that of the module: "model.layers.3.self_attn.q_proj".
  LinearShape shape;
  int64_t unit = 1;  // So many outputs are computed together: head_dim where they are heads.
  DeviceSplit split = DeviceSplit::kOutputs;
};

// Describes a norm's weight.
struct VectorPlan {
  std::string name;  // It is that of the tensor: "model.layers.3.input_layernorm.weight".
  int64_t size = 0;
  size_t group = 0;  // In files it stands before this one of BlockPlan::groups.
};

// The channels of a group's input are query heads, and what gives them has one head for several:
// s must be the same in all query heads that read one kv head.
struct SharedHeads {
  int64_t head_dim = 0;
  int64_t query_heads_per_kv_head = 1;
};

// Says what gives its output divided by s when the columns of a group's Linears are multiplied.
struct Fold {
  // It is a norm's weight, or the rows and the bias of a Linear.
  enum class Into { kVector, kLinear };
  Into into = Into::kVector;
  size_t index = 0;  // It points into BlockPlan::vectors or BlockPlan::linears.
  std::optional<SharedHeads> shared_heads;

  bool IntoLinear() const { return into == Into::kLinear; }
};

struct GroupPlan {
  std::string path;             // It lies in the block: "self_attn.qkv_proj".
  std::string name;             // It is e.g. "model.layers.3.self_attn.qkv_proj".
  std::vector<size_t> linears;  // They point into BlockPlan::linears.
  Fold fold;
};

// Linears that engines multiply by as one weight, under a name that is in no checkpoint.
struct FusedLinears {
  std::string name;  // It stands in place of the last part of a path: "qkv_proj".
  // They point into BlockPlan::linears and are neighbours in this order.
  std::vector<size_t> linears;
};

// Plans x / sqrt(mean(x^2) + epsilon) * weight, Zhang and Sennrich, "RMSNorm", arXiv:1910.07467.
struct NormPlan {
  size_t weight = 0;  // It points into BlockPlan::vectors.
  double epsilon = 0;
};

// Plans o(attention(rope(q(x)), rope(k(x)), v(x))), causal, with grouped queries.
struct AttentionPlan {
  size_t query = 0, key = 0, value = 0, output = 0;  // They point into BlockPlan::linears.
  size_t input_group = 0, output_group = 0;          // They point into BlockPlan::groups.
  int64_t heads = 0;
  int64_t kv_heads = 0;  // It divides heads.
  int64_t head_dim = 0;
  std::optional<int64_t> window;  // A query sees so many positions, its own included.
};

// Plans down(silu(gate(x)) * up(x)), Shazeer, "GLU variants", arXiv:2002.05202.
struct GatedMlpPlan {
  size_t gate = 0, up = 0, down = 0;         // They point into BlockPlan::linears.
  size_t input_group = 0, output_group = 0;  // They point into BlockPlan::groups.
};

// Plans one step of the residual stream: x += mixer(norm(x)).
struct Sublayer {
  NormPlan norm;
  std::variant<AttentionPlan, GatedMlpPlan> mixer;
};

struct BlockPlan {
  int64_t layer = 0;
  std::string prefix;  // It is e.g. "model.layers.3.".
  std::vector<VectorPlan> vectors;
  std::vector<LinearPlan> linears;
  std::vector<GroupPlan> groups;  // They stand in the order of the forward pass.
  std::vector<FusedLinears> fused;
  std::vector<Sublayer> sublayers;  // They stand in the order of the forward pass.

  // Returns the group that reads what Linear `linear` reads.
  const GroupPlan& GroupOf(size_t linear) const;
  // Returns the set that engines fuse the Linear with; nullptr for one that stands alone.
  const FusedLinears* FusedOf(size_t linear) const;
  // Returns in_features of the group's Linears.
  int64_t InputsOf(const GroupPlan& group) const {
    return linears[group.linears.front()].shape.in_features;
  }
  // Returns the elements of all Linears' weights.
  int64_t Weights() const;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCK_PLAN_H_
