#include "core/model/blocks/soft_cap.h"

#include "core/kernels/forward_kernels.h"

namespace salient {

// tanh(z) = 1 - 2 / (1 + exp(2 z)), whose exponential is the only part that is not cheap.
void SoftCap(double factor, double cap, int64_t n, float* values) {
  const auto twice = static_cast<float>(2 * factor / cap);
  const auto most = static_cast<float>(cap);
  for (int64_t i = 0; i < n; ++i) values[i] *= twice;
  Exponentials(values, n, values);
  for (int64_t i = 0; i < n; ++i) values[i] = most - 2 * most / (1 + values[i]);
}

}  // namespace salient
