// Says what an engine does to the inputs of a model's Linears before it multiplies them.
#ifndef SALIENT_CORE_MODEL_INPUT_ROUNDINGS_H_
#define SALIENT_CORE_MODEL_INPUT_ROUNDINGS_H_

#include <vector>

#include "core/model/block_weights.h"

namespace salient {

// These are by layer, then as BlockPlan::linears; without layers nothing is rounded.
using InputRoundings = std::vector<std::vector<InputRounding>>;

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_INPUT_ROUNDINGS_H_
