// Returns the dtype of the product that others are held against, whatever this CPU has.
#ifndef SALIENT_TESTS_BENCH_FLOOR_DTYPE_H_
#define SALIENT_TESTS_BENCH_FLOOR_DTYPE_H_

#include "core/linalg/gemm.h"
#include "core/tensor/dtype.h"

namespace salient::bench {

// Returns the dtype of the bare product that a product of such factors is held against: F32 for
// BF16 where the CPU does not multiply that, because the core widens it and multiplies f32 there.
inline DType FloorDType(DType factors) {
  return factors == DType::kBF16 && !MultipliesBf16() ? DType::kF32 : factors;
}

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_FLOOR_DTYPE_H_
