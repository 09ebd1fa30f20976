// Inner loops over codes that were chosen: how far what a reader of the file computes from them is
// from the weight.
//
// Vectorized, dispatched at run time; the same result on every instruction set. Thread-safe;
// allocate nothing.
#ifndef SALIENT_CORE_KERNELS_ERROR_KERNELS_H_
#define SALIENT_CORE_KERNELS_ERROR_KERNELS_H_

#include <cstdint>

namespace salient {

// errors[i] = scale * codes[i] - w[i], rounded twice: what a reader of the file computes.
void OffsetErrors(const float* w, const float* codes, float scale, int64_t n, float* errors);

// errors[i] = scale * (codes[i] - zero_point) * inverse[i] - errors[i], rounded after each step:
// what a reader of the file computes on an input divided by s, inverse = 1 / s, less the weight.
void DecodedErrors(const uint8_t* codes, int64_t n, float scale, uint8_t zero_point,
                   const float* inverse, float* errors);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_ERROR_KERNELS_H_
