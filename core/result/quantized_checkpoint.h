// Says what a quantized checkpoint consists of. All of it but the tensors' bytes is known before
// any work: files, headers, index, config.json. Only a limit of error leaves open until the end
// which groups have other widths.
#ifndef SALIENT_CORE_RESULT_QUANTIZED_CHECKPOINT_H_
#define SALIENT_CORE_RESULT_QUANTIZED_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/shard_index.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/model.h"
#include "core/pack/stored_format.h"
#include "core/result/module_override.h"
#include "core/result/plain_dtypes.h"
#include "core/result/raised_group.h"
#include "core/safetensors/layout.h"
#include "core/tensor/stored_format.h"

namespace salient {

// This is a Linear that is not quantized.
struct KeptLinear {
  std::string module;  // It is the full path.
  std::string why;     // It is a sentence.
};

struct QuantizedFile {
  std::string name;  // It is e.g. "model.safetensors" or "model-00001-of-00002.safetensors".
  SafetensorsLayout layout;
};

struct QuantizedCheckpointPlan {
  std::vector<QuantizedFile> files;
  std::string index_json;   // It is that of kShardIndexName; one file has none, and it is empty.
  std::string config_json;  // PlanQuantizedCheckpoint says what is in it.
  std::string quantize_config_json;  // It is that of kQuantizeConfigName, and empty unless GPTQ.
  std::vector<KeptLinear> kept;
  int64_t parameters = 0;    // They are those of the whole model.
  int64_t output_bytes = 0;  // They are those of all of the above.
  // It is the same, but for config.json, if a limit of error leaves every Linear F16.
  int64_t most_output_bytes = 0;
};

struct QuantizedCheckpointParams {
  StoredFormat stored;
  // A group that the format cannot hold is an error instead of kept in F16.
  bool strict = false;
  int64_t max_shard_bytes = kDefaultMaxShardBytes;
  std::vector<ModuleOverride> overrides = {};
  // Says what QuantizeModel told of the result with index `output`, once it is done; none before.
  std::vector<RaisedGroup> raised = {};
  size_t output = 0;
  // These are what PlainDTypesOf says of the source; while they are unknown, config.json counts.
  std::optional<PlainDTypes> dtypes = {};
};

// Returns INVALID_ARGUMENT for a model that is quantized already.
absl::Status CheckNotQuantized(const ModelConfig& config);

// `config_json` is the text that the model's config was parsed from. Depends on its arguments only.
//
// Tensors are those of QuantizeModel and CopyOuterTensors: for each decoder block the format's
// tensors of every Linear, or <module>.weight [out, in] if it is kept; norms and biases;
// embeddings, final norm and, unless tied, the head. What is not the format's has its PlainDType.
// Files are cut in the order of the model: embeddings, blocks, norm, head.
//
// config.json is the source's as MendConfig leaves it, with quantization_config and
// PlainDTypes::config. A Linear has the format that overrides and `raised` say, or is kept as they
// say. quantization_config is that of QuantizationConfigJson; plain formats have none.
//
// Errors: as CheckNotQuantized, QuantizableGroups, ApplyRaised and PlanShards;
// INVALID_ARGUMENT for a config that engines refuse, or for a format that there is not, naming its
// field, the value and the nearest that there is.
absl::StatusOr<QuantizedCheckpointPlan> PlanQuantizedCheckpoint(
    const Model& model, absl::string_view config_json, const QuantizedCheckpointParams& params);

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_QUANTIZED_CHECKPOINT_H_
