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

// Describes a norm's weight or bias, or the filters of a convolution.
struct VectorPlan {
  std::string name;            // It is that of the tensor: "model.layers.3.input_layernorm.weight".
  std::vector<int64_t> shape;  // It is [n], or [n, 1, length] of n filters.
  size_t group = 0;            // In files it stands before this one of BlockPlan::groups.
};

// Says how a norm normalizes a row x of n elements:
//   kRms    x / sqrt(mean(x^2) + epsilon) * w, Zhang and Sennrich, arXiv:1910.07467
//   kLayer  (x - mean(x)) / sqrt(var(x) + epsilon) * w + b, Ba et al., arXiv:1607.06450
struct NormRule {
  enum class Kind { kRms, kLayer };
  Kind kind = Kind::kRms;
  double epsilon = 0;
  bool plus_one = false;  // The tensor holds w - 1.
};

struct NormPlan {
  NormRule rule;
  size_t weight = 0;           // It points into BlockPlan::vectors.
  std::optional<size_t> bias;  // So does this; a kLayer has one.
};

// The channels of a group's input are query heads, and what gives them has one head for several:
// s must be the same in all query heads that read one kv head.
struct SharedHeads {
  int64_t head_dim = 0;
  int64_t query_heads_per_kv_head = 1;
};

// Says what gives its output divided by s when the columns of a group's Linears are multiplied.
struct Fold {
  // It is a norm's weight and bias, or rows of a Linear and their biases. kNothing: nothing can
  // take s, because the input is the residual stream itself or what comes before is not
  // homogeneous.
  enum class Into { kNothing, kNorm, kLinear };
  Into into = Into::kNothing;
  size_t index = 0;  // It points into BlockPlan::norms or BlockPlan::linears.
  std::optional<SharedHeads> shared_heads = {};
  int64_t first_row = 0;  // In a Linear that is several in one, the rows begin here.

  bool IntoNorm() const { return into == Into::kNorm; }
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

// Rows of a Linear that are one factor of what a block computes: all of them, or a part of a Linear
// that is several in one, as a qkv_proj is.
struct ProjectionPlan {
  size_t linear = 0;  // It points into BlockPlan::linears.
  int64_t first_row = 0;
  int64_t rows = 0;
};

// Plans o(attention(rope(norm(q(x))), rope(norm(k(x))), v(x))), causal, with grouped queries
// (Ainslie et al., "GQA", arXiv:2305.13245).
struct AttentionPlan {
  size_t query = 0, key = 0, value = 0;      // They point into BlockPlan::projections.
  size_t output = 0;                         // It points into BlockPlan::linears.
  size_t input_group = 0, output_group = 0;  // They point into BlockPlan::groups.
  int64_t heads = 0;
  int64_t kv_heads = 0;  // It divides heads.
  int64_t head_dim = 0;
  double scale = 0;                // It multiplies the scores.
  std::optional<int64_t> window;   // A query sees so many positions, its own included.
  std::optional<double> soft_cap;  // A score becomes cap tanh(score / cap).
  std::optional<size_t> rope;      // It points into Model::ropes.
  // These norms point into BlockPlan::norms. They work on each head, or on the whole row.
  std::optional<size_t> query_norm, key_norm;
  bool norms_whole_row = false;
};

enum class Activation {
  kSilu,      // x / (1 + exp(-x))
  kGeluTanh,  // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  kRelu,      // max(x, 0)
};

// Plans down(activation(gate(x)) * up(x)), Shazeer, "GLU variants", arXiv:2002.05202, or
// down(activation(up(x))) without a gate.
struct MlpPlan {
  std::optional<size_t> gate;  // It points into BlockPlan::projections.
  size_t up = 0;               // So does this.
  size_t down = 0;             // It points into BlockPlan::linears.
  Activation activation = Activation::kSilu;
  size_t input_group = 0, output_group = 0;  // They point into BlockPlan::groups.
};

// Plans out(c(x) * convolution(b(x) * value(x))), where each channel has a causal filter of its
// own: y_t = sum_j filter_j z_(t - length + 1 + j) + bias.
struct ShortConvolutionPlan {
  size_t input_gate = 0, output_gate = 0, value = 0;  // They point into BlockPlan::projections.
  size_t output = 0;                                  // It points into BlockPlan::linears.
  size_t filter = 0;           // It points into BlockPlan::vectors: [channels, 1, length].
  std::optional<size_t> bias;  // So does this: [channels].
  int64_t length = 0;
  size_t input_group = 0, output_group = 0;  // They point into BlockPlan::groups.
};

// Plans one step of the residual stream: x = after(x + multiplier * post_norm(mixer(norm(x)))).
// What is not there is left out. The norms point into BlockPlan::norms.
struct Sublayer {
  std::optional<size_t> norm;
  std::variant<AttentionPlan, MlpPlan, ShortConvolutionPlan> mixer;
  std::optional<size_t> post_norm = {};
  double multiplier = 1;
  std::optional<size_t> after = {};

  // Returns whether what the mixer gives is added as it is.
  bool IsAddedPlainly() const { return !post_norm.has_value() && multiplier == 1; }
};

struct BlockPlan {
  int64_t layer = 0;
  std::string prefix;  // It is e.g. "model.layers.3.".
  std::vector<VectorPlan> vectors;
  std::vector<NormPlan> norms;
  std::vector<LinearPlan> linears;
  std::vector<ProjectionPlan> projections;
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
