// Says what is added to the diagonal of a curvature matrix before it is factored, as a share of the
// mean diagonal.
#ifndef SALIENT_CORE_METHOD_DAMPING_H_
#define SALIENT_CORE_METHOD_DAMPING_H_

#include <algorithm>
#include <optional>

#include "core/method/bounds.h"

namespace salient {

// Returns what to try where a matrix could not be factored with `damping`: twice as much, at least
// 0.01. nullopt: that was kMostDamping.
inline std::optional<float> RaisedDamping(float damping) {
  if (damping >= kMostDamping) return std::nullopt;
  return std::min(kMostDamping, std::max(0.01f, 2 * damping));
}

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_DAMPING_H_
