// Tells when a fold takes more from a Linear's scales than F16 can give.
#ifndef SALIENT_CORE_QUANTIZE_LOST_SCALES_H_
#define SALIENT_CORE_QUANTIZE_LOST_SCALES_H_

#include "core/model/block_weights.h"
#include "core/tensor/affine_groups.h"

namespace salient {

// Returns whether dividing a Linear's rows makes more than a few of its groups' scales so small, or
// weights so large, that F16 does not hold them well, unlike those of the source.
bool LosesScales(const StoredLinear& before, const StoredLinear& after, const WeightFormat& format);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZE_LOST_SCALES_H_
