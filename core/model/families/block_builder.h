// Builds the plan of a decoder block from the parts that families share.
#ifndef SALIENT_CORE_MODEL_FAMILIES_BLOCK_BUILDER_H_
#define SALIENT_CORE_MODEL_FAMILIES_BLOCK_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/config/model/model_config.h"
#include "core/model/block_plan.h"

namespace salient {

// Names the norms around a mixer by their paths in the block; empty ones are not there. All have
// one rule.
struct NormPaths {
  NormRule rule = {};
  std::string before = {};  // It gives the mixer's input, and takes the scale of its first group.
  std::string of_change = {};  // It works on what the mixer gives.
  std::string after = {};      // It works on the residual stream after the addition.
};

struct AttentionParts {
  NormPaths norms;
  std::string path = "self_attn.";
  std::string query = "q_proj", key = "k_proj", value = "v_proj", output = "o_proj";
  std::string fused;  // It is the one Linear that stands for the first three, if it is not empty.
  bool input_bias = false;
  bool output_bias = false;
  std::string query_norm, key_norm;  // They lie below `path`.
  NormRule head_rule;                // It is that of these two.
  bool norms_whole_row = false;
  std::optional<double> scale;  // nullopt stands for 1 / sqrt(head_dim).
  std::optional<double> soft_cap;
  std::optional<size_t> rope = 0;
  double multiplier = 1;
};

struct MlpParts {
  NormPaths norms;
  std::string path = "mlp.";
  std::string gate = "gate_proj";  // It is empty if there is none.
  std::string up = "up_proj", down = "down_proj";
  std::string fused;  // It is the one Linear that stands for gate and up, if it is not empty.
  std::string fused_by_engines = "gate_up_proj";
  bool bias = false;
  Activation activation = Activation::kSilu;
  double multiplier = 1;
};

struct ShortConvolutionParts {
  NormPaths norms;
  std::string path = "conv.";
  bool bias = false;
  int64_t length = 0;
};

// Adds sublayers in the order of the forward pass. Heads, sizes and windows are those of the
// config.
class BlockBuilder {
 public:
  BlockBuilder(const ModelConfig& config, int64_t layer, absl::string_view layers);

  void AddAttention(const AttentionParts& parts);
  void AddMlp(const MlpParts& parts);
  void AddShortConvolution(const ShortConvolutionParts& parts);

  BlockPlan Build() && { return std::move(block_); }

 private:
  size_t AddVector(const std::string& path, std::vector<int64_t> shape, size_t group);
  // Adds weight and, of a layer norm, bias. Returns nullopt for an empty path.
  std::optional<size_t> AddNorm(const NormRule& rule, const std::string& path, int64_t size,
                                size_t group);
  // Returns a place in BlockPlan::linears.
  size_t AddLinear(const std::string& path, LinearShape shape, int64_t unit, DeviceSplit split);
  // Returns a place in BlockPlan::projections.
  size_t AddRows(size_t linear, int64_t first_row, int64_t rows);
  size_t AddWhole(size_t linear);
  size_t AddGroup(const std::string& path, std::vector<size_t> linears, Fold fold);
  void Finish(const NormPaths& norms, size_t group, Sublayer sublayer);

  const ModelConfig& config_;
  BlockPlan block_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_FAMILIES_BLOCK_BUILDER_H_
