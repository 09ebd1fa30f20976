// Describes model families as data: what a decoder block's tensors are called, which Linears read
// the same input, and what the scale of that input folds into.
//
// Shapes, with H = hidden_size, I = intermediate_size, d = head_dim:
//   q [heads d, H]   k, v [kv_heads d, H]   o [H, heads d]   gate, up [I, H]   down [H, I]
#ifndef SALIENT_CORE_MODEL_FAMILY_H_
#define SALIENT_CORE_MODEL_FAMILY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/config/model/model_config.h"

namespace salient {

enum class LinearRole { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown };
inline constexpr size_t kLinearRoles = 7;

enum class NormRole { kInput, kPostAttention };
inline constexpr size_t kNormRoles = 2;

enum class GroupRole { kQkv, kOutput, kGateUp, kDown };
inline constexpr size_t kGroupRoles = 4;

// Linears that read one input. Their columns are multiplied by s; what comes before gives its
// output divided by s: the norm's weight, or the rows (and the bias) of a Linear.
struct GroupRow {
  GroupRole role;
  // It is the last part of the group's name, such as "self_attn.qkv_proj".
  absl::string_view name;
  absl::Span<const LinearRole> linears;
  // Exactly one of the two is set.
  std::optional<NormRole> fold_into_norm;
  std::optional<LinearRole> fold_into_linear;
  // The input's channels are query heads, the folded Linear's rows kv heads: s must be the same
  // in all query heads that read one kv head.
  bool tied_heads = false;
};

// Says which Linears have a bias.
enum class BiasRule {
  kNone,
  kQueryKeyValue,
  kByConfig,  // q, k, v, o have them by attention_bias; gate, up, down by mlp_bias.
};

struct Family {
  absl::string_view architecture;
  absl::string_view embeddings;  // It is [vocab_size, H].
  absl::string_view final_norm;  // It is [H].
  // It is [vocab_size, H], and not used when it is tied to the embeddings.
  absl::string_view head;
  absl::string_view block_prefix;  // Block i is "<block_prefix><i>.".
  // They stand by role, after the block's prefix.
  std::array<absl::string_view, kLinearRoles> linears;
  std::array<absl::string_view, kNormRoles> norms;
  std::array<GroupRow, kGroupRoles> groups;  // They stand in the order of the forward pass.
  BiasRule biases = BiasRule::kNone;
};

// Returns all families that we know. Their storage is static.
absl::Span<const Family> Families();

// Returns UNIMPLEMENTED naming the config's file, its architecture and those we know.
absl::StatusOr<const Family*> FindFamily(const ModelConfig& config);

// Returns "model.layers.3.".
std::string BlockPrefix(const Family& family, int64_t layer);
// Returns "model.layers.3.self_attn.q_proj".
std::string LinearName(const Family& family, int64_t layer, LinearRole role);
// Returns "model.layers.3.input_layernorm.weight".
std::string NormName(const Family& family, int64_t layer, NormRole role);
// Returns the tensor that logits are computed with: the head, or the embeddings when they are tied.
std::string HeadName(const Family& family, const ModelConfig& config);

struct LinearShape {
  int64_t out_features = 0;
  int64_t in_features = 0;
  bool has_bias = false;
};

LinearShape ShapeOf(const Family& family, const ModelConfig& config, LinearRole role);

// A tensor the model must have.
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
};

// Returns the tensors of one block, in the order of the forward pass.
std::vector<TensorSpec> BlockTensors(const Family& family, const ModelConfig& config,
                                     int64_t layer);
// Lists the tensors outside the blocks: embeddings, final norm, and the head when it is not tied.
std::vector<TensorSpec> OuterTensors(const Family& family, const ModelConfig& config);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_FAMILY_H_
