// Describes a Linear that is to be quantized.
#ifndef SALIENT_CORE_GROUP_LINEAR_H_
#define SALIENT_CORE_GROUP_LINEAR_H_

#include <string>

#include "core/tensor/weight_view.h"

namespace salient {

struct Linear {
  std::string name;  // It is the module path, the prefix of the packed tensors' names.
  WeightView weight;
};

}  // namespace salient

#endif  // SALIENT_CORE_GROUP_LINEAR_H_
