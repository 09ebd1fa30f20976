// The inner loop that lays tiles of tokens out for products, channel by channel.
//
// Vectorized, dispatched at run time; the same result on every instruction set. Thread-safe;
// allocates nothing.
#ifndef SALIENT_CORE_KERNELS_TRANSPOSE_KERNELS_H_
#define SALIENT_CORE_KERNELS_TRANSPOSE_KERNELS_H_

#include <cstdint>

namespace salient {

// out[c * ld + t] = x[t * stride + c] for tokens t and columns c of 16 bits.
void Transpose16(const uint16_t* x, int64_t tokens, int64_t columns, int64_t stride, uint16_t* out,
                 int64_t ld);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_TRANSPOSE_KERNELS_H_
