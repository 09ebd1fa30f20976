// Says what an engine does to the inputs of a model's Linears before it multiplies them.
#ifndef SALIENT_CORE_MODEL_INPUT_ROUNDINGS_H_
#define SALIENT_CORE_MODEL_INPUT_ROUNDINGS_H_

#include <array>
#include <vector>

#include "core/model/block_weights.h"
#include "core/model/family.h"

namespace salient {

// By layer, then by LinearRole; no layers: nothing is rounded.
using InputRoundings = std::vector<std::array<InputRounding, kLinearRoles>>;

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_INPUT_ROUNDINGS_H_
