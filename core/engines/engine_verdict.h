// Judges which engines load a checkpoint, and why not: known before any work, from shapes and names
// alone. The constraints were read from the engines' own sources; what is not known of an engine is
// said as a remark and counts for loading.
#ifndef SALIENT_CORE_ENGINES_ENGINE_VERDICT_H_
#define SALIENT_CORE_ENGINES_ENGINE_VERDICT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/engines/engine.h"
#include "core/engines/model_description.h"

namespace salient {

inline constexpr int64_t kMaxTensorParallel = 1024;

struct EngineVerdict {
  Engine engine = Engine::kVllm;
  // Each says why it does not load, and names a value and what is wanted.
  std::vector<std::string> faults;
  std::vector<std::string> remarks;  // Each says what to mind, also of one that loads.

  bool loads() const { return faults.empty(); }
};

// Judges one engine. `tensor_parallel` devices, 1 to kMaxTensorParallel, share the model.
EngineVerdict JudgeEngine(Engine engine, const ModelDescription& model, int64_t tensor_parallel);

// Judges every engine, in the order of AllEngines.
std::vector<EngineVerdict> JudgeEngines(const ModelDescription& model, int64_t tensor_parallel);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_ENGINE_VERDICT_H_
