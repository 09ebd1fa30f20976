// Names the arithmetic that results come from.
#ifndef SALIENT_CORE_MODEL_NUMERICS_H_
#define SALIENT_CORE_MODEL_NUMERICS_H_

#include <string>

#include "core/model/activations.h"
#include "core/model/projection.h"

namespace salient {

// Grows whenever the same input gives other bytes.
inline constexpr int kAlgorithmVersion = 5;

// Returns {compute dtype of the forward pass, instruction sets of GEMM and of kernels, oneDNN
// version, algorithm version}, e.g. "bf16/avx512_core_bf16+AVX3/onednn-2.6.3/salient-1". Equal ids
// give bit-identical results.
std::string NumericsId(ComputeDType compute);

// Names the arithmetic of what has no forward pass, or one in f32.
inline std::string NumericsId() { return NumericsId(ComputeDType::kF32); }

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_NUMERICS_H_
