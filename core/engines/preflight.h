// Tells whether engines will load a result, asked before any work; if not, what to ask for instead.
#ifndef SALIENT_CORE_ENGINES_PREFLIGHT_H_
#define SALIENT_CORE_ENGINES_PREFLIGHT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/engines/engine.h"
#include "core/model/model.h"
#include "core/pack/stored_format.h"
#include "core/result/quantized_checkpoint.h"
#include "core/tensor/stored_format.h"

namespace salient {

struct EngineRequest {
  std::vector<Engine> engines;  // They must load the result.
  int64_t tensor_parallel = 1;  // So many devices share the model, 1 to kMaxTensorParallel.
};

// Is a result as it is asked for.
struct AskedResult {
  QuantizedCheckpointParams params;
  bool limits_error = false;  // Groups may get 8 bits or stay F16 in the end.
};

// Returns what a user should know of `plan`, that of `asked`, in sentences: what to mind with the
// engines that were asked for. If none was, one sentence says which load it, and which do not, or
// may not when a limit of error was applied.
//
// Errors: INVALID_ARGUMENT if one that was asked for will not load it, or would not load what a
// limit of error may make of it, naming the first Linear at fault, the value, what the engine
// wants, and the nearest format that all of them load.
absl::StatusOr<std::vector<std::string>> CheckEngines(const Model& model,
                                                      absl::string_view config_json,
                                                      const AskedResult& asked,
                                                      const QuantizedCheckpointPlan& plan,
                                                      const EngineRequest& request);

// Returns the smallest change of the format that all engines of the request load, overrides and
// what a limit of error may do included, and that quantizes no fewer Linears: group_size is changed
// first, then symmetric, bits, the output format, then two of them, and so on. nullopt if there is
// none.
std::optional<StoredFormat> NearestFormat(const Model& model, absl::string_view config_json,
                                          const AskedResult& asked, const EngineRequest& request);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_PREFLIGHT_H_
