// Describes a checkpoint as engines see it before they read a weight: what its config and headers
// say.
#ifndef SALIENT_CORE_ENGINES_MODEL_DESCRIPTION_H_
#define SALIENT_CORE_ENGINES_MODEL_DESCRIPTION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/model/block_plan.h"
#include "core/pack/stored_format.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"

namespace salient {

// Describes a Linear of a decoder block.
struct LinearDescription {
  std::string module;  // full path
  DeviceSplit split = DeviceSplit::kOutputs;
  // In ModelDescription::linears: the first of those that engines fuse it with, itself if there are
  // none. They stand side by side.
  size_t first_sibling = 0;
  std::string fused_name;  // full path; empty for one that stands alone
  int64_t out_features = 0;
  int64_t in_features = 0;
  bool quantized = false;
  WeightFormat format = {};  // It is that of a quantized one, as its tensors say.
  // The config says that it is not quantized; awq has `skipped` for it.
  bool said_plain = false;
  // gptq: whether modules_in_block_to_quantize has it; nullopt: the config has no such list
  std::optional<bool> in_block_list = {};
};

struct ModelDescription {
  std::string architecture;
  // It is "awq", "gptq" or "compressed-tensors"; empty if it is not quantized.
  std::string quant_method;
  // The first quantized Linear has it; the others may differ in bits, group_size and symmetry.
  StoredFormat stored;
  // By block, in each as BlockPlan::linears.
  std::vector<LinearDescription> linears;
  int64_t num_attention_heads = 1;
  int64_t num_key_value_heads = 1;
  int64_t head_dim = 1;
  std::optional<DType> dtype;  // Engines compute in it, as the config says.
  bool act_order = false;      // The columns of a group are no neighbours.
  bool zero_point = true;      // awq's config says it.
  std::string version;         // awq has "gemm", as the config spells it; it may be empty.
  bool old_names = false;      // awq says w_bit or q_group_size instead of bits or group_size.
  // awq: modules_to_not_convert, whose entries engines look for inside of paths.
  std::vector<std::string> skipped;
  int64_t config_groups = 0;  // compressed-tensors has so many.
  // compressed-tensors: the first field that its library does not have, of a group and of the
  // arguments in one, by its path in quantization_config; empty: there is none.
  std::string unknown_in_group;
  std::string unknown_in_arguments;
  bool own_head = false;  // The head is unlike the embeddings that the config ties it to.
  // These sentences say what transformers' reader of config.json refuses.
  std::vector<std::string> config_refusals;
  // These sentences say what transformers' model alone refuses in it.
  std::vector<std::string> model_refusals;
  int64_t parameters = 0;  // They are the weights of the whole model.
  int64_t bytes = 0;       // They are those of its tensors.

  bool quantized() const {
    return std::any_of(linears.begin(), linears.end(),
                       [](const LinearDescription& linear) { return linear.quantized; });
  }
};

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_MODEL_DESCRIPTION_H_
