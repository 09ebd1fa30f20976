// Lists what a job may make of a model, as far as engines care: few blocks of it stand for all, and
// a limit of error leaves open which groups have other widths.
#ifndef SALIENT_CORE_ENGINES_POSSIBLE_RESULTS_H_
#define SALIENT_CORE_ENGINES_POSSIBLE_RESULTS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/model/model.h"
#include "core/result/quantized_checkpoint.h"

namespace salient {

// The same model with two blocks of each kind: those that the same overrides change are of one
// kind. `params` follow.
struct ModelSample {
  Model model;
  QuantizedCheckpointParams params;
};
ModelSample SampleBlocks(const Model& model, const QuantizedCheckpointParams& params);

struct RaisedPlan {
  std::string to;  // Its last groups have it: "8 bits" or "F16".
  QuantizedCheckpointPlan plan;
};

// Returns, of the results that a limit of error may lead to, the two that stand for the others:
// groups of the last block in 8 bits, where that is a choice, and in F16. None for what is not
// rounded.
std::vector<RaisedPlan> PlansRaised(const Model& model, absl::string_view config_json,
                                    const QuantizedCheckpointParams& params);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_POSSIBLE_RESULTS_H_
