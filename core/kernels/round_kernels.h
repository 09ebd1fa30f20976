// Inner loops of rounding to the nearest code, of weights and of activations.
//
// Vectorized, dispatched at run time. Element-wise kernels give the same result on every
// instruction set; sums and fused multiply-adds may differ in the last bits between sets, never
// between calls. All are thread-safe and allocate nothing.
#ifndef SALIENT_CORE_KERNELS_ROUND_KERNELS_H_
#define SALIENT_CORE_KERNELS_ROUND_KERNELS_H_

#include <cstdint>
#include <utility>

namespace salient {

// Smallest and largest of w[0 .. n), n > 0.
std::pair<float, float> MinMax(const float* w, int64_t n);

// One affine map: w' = scale * (code - zero_point).
struct Affine {
  float scale = 1;
  float zero_point = 0;  // It is an integer, 0 to max_code.
  float max_code = 15;   // It is 2^bits - 1.
};

// errors[i] = w'[i] - w[i] with code = clamp(round(w / scale) + zero_point, 0, max_code), ties
// to even.
void NearestErrors(const float* w, int64_t n, const Affine& affine, float* errors);

// The codes of the same rounding.
void NearestCodes(const float* w, int64_t n, const Affine& affine, uint8_t* codes);

// values[i] becomes step * clamp(round(values[i] / step), -128, kMostSteps), ties to even: what
// signed codes of 8 bits make of it. step > 0. NaN and infinities stay as they are.
inline constexpr float kMostSteps = 127;
void RoundToSteps(float step, int64_t n, float* values);

// The step of values that have one of their own: the largest magnitude over kMostSteps, at least
// 2^-23, so that there is one for zeros, too.
float StepOf(const float* values, int64_t n);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_ROUND_KERNELS_H_
