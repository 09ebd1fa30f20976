// Bounds scores and logits softly (Gemma Team, "Gemma 2", arXiv:2408.00118).
#ifndef SALIENT_CORE_MODEL_BLOCKS_SOFT_CAP_H_
#define SALIENT_CORE_MODEL_BLOCKS_SOFT_CAP_H_

#include <cstdint>

namespace salient {

// Replaces each value by cap tanh(factor value / cap), with an error below 2^-20 cap. It is
// thread-safe.
void SoftCap(double factor, double cap, int64_t n, float* values);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_SOFT_CAP_H_
