// Whether engines will load a result, asked before any work; if not, what to ask for instead.
#ifndef SALIENT_CORE_ENGINES_PREFLIGHT_H_
#define SALIENT_CORE_ENGINES_PREFLIGHT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/model_config.h"
#include "core/engines/engine.h"
#include "core/pack/stored_format.h"
#include "core/quantized_checkpoint.h"

namespace salient {

struct EngineRequest {
  std::vector<Engine> engines;  // that must load the result
  int64_t tensor_parallel = 1;  // devices that share the model, 1 to kMaxTensorParallel
};

// What a user should know of a plan, in sentences: why engines that were not asked for will not
// load it, and what to mind with those that were.
//
// Errors: INVALID_ARGUMENT if one that was asked for will not load it, naming the first Linear at
// fault, the value, what the engine wants, and the nearest format that all of them load.
absl::StatusOr<std::vector<std::string>> CheckEngines(const ModelConfig& config,
                                                      absl::string_view config_json,
                                                      const StoredFormat& stored,
                                                      const QuantizedCheckpointPlan& plan,
                                                      const EngineRequest& request);

// The smallest change of `stored` that all engines of the request load and that quantizes no fewer
// Linears of a block: group_size is changed first, then symmetric, bits, the output format, then
// two of them, and so on. nullopt if there is none.
std::optional<StoredFormat> NearestFormat(const ModelConfig& config, absl::string_view config_json,
                                          const StoredFormat& stored, const EngineRequest& request);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_PREFLIGHT_H_
