// Says what one device multiplies by: the Linears of a block as an engine lays them together and
// splits them over devices.
#ifndef SALIENT_CORE_ENGINES_DEVICE_PARTS_H_
#define SALIENT_CORE_ENGINES_DEVICE_PARTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/engines/engine.h"
#include "core/engines/findings.h"
#include "core/engines/model_description.h"

namespace salient {

// Is a weight of one device.
struct DevicePart {
  // It is the first of those that are one on the device.
  const LinearDescription* linear = nullptr;
  std::string name;          // It names the Linear and what is laid beside it.
  int64_t out_features = 0;  // They are those of the device.
  int64_t in_features = 0;
};

// Returns whether the engine splits models over devices at all; the others spread whole blocks.
bool SplitsLinears(Engine engine);

// Returns the parts of all blocks, quantized or not. What cannot be split says so in `findings` and
// is left out: heads and features that do not come out even, groups and packed words that would be
// cut.
std::vector<DevicePart> PartsOnDevice(const ModelDescription& model, int64_t tensor_parallel,
                                      Findings& findings);

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_DEVICE_PARTS_H_
