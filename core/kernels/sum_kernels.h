// Inner loops over plain vectors: conversions, products, sums.
//
// Vectorized, dispatched at run time. Element-wise kernels give the same result on every
// instruction set; sums and fused multiply-adds may differ in the last bits between sets, never
// between calls. All are thread-safe and allocate nothing.
#ifndef SALIENT_CORE_KERNELS_SUM_KERNELS_H_
#define SALIENT_CORE_KERNELS_SUM_KERNELS_H_

#include <cstdint>
#include <string>

#include "core/kernels/instruction_set.h"

namespace salient {

// Widens F16 bits, exactly.
void WidenF16(const uint16_t* bits, int64_t n, float* out);

// out[i] = a[i] * b[i]. `out` may be `a`.
void Multiply(const float* a, const float* b, int64_t n, float* out);

// sum a[i] b[i], products and sum in f64.
double Dot(const float* a, const float* b, int64_t n);

// Part of LimitInstructionSet: what the kernels of all files may use.
void LimitKernels(InstructionSet set);

// Name of the instruction set these kernels use here, e.g. "AVX3".
std::string KernelTarget();

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_SUM_KERNELS_H_
