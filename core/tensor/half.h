// Converts the two 16-bit float formats to and from f32. Rounding is to nearest, ties to even (IEEE
// 754-2019); F16 overflow gives infinity; NaN stays NaN.
#ifndef SALIENT_CORE_TENSOR_HALF_H_
#define SALIENT_CORE_TENSOR_HALF_H_

#include <cstddef>
#include <cstdint>

#include "core/tensor/dtype.h"

namespace salient {

float F16ToF32(uint16_t bits);
uint16_t F32ToF16(float value);
float BF16ToF32(uint16_t bits);
uint16_t F32ToBF16(float value);

// Returns `value` rounded to what an F16 can hold.
inline float RoundToF16(float value) { return F16ToF32(F32ToF16(value)); }

// Widens `count` elements of type `dtype` (F32, F16 or BF16; little-endian, any alignment) into
// `out`. It is exact.
void WidenToF32(DType dtype, const std::byte* data, int64_t count, float* out);

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_HALF_H_
