// Inner loops of a decoder block's forward pass between its products: one row of one token each.
//
// Vectorized, dispatched at run time. Sums and fused multiply-adds may differ in the last bits
// between instruction sets, never between calls. All are thread-safe and allocate nothing. Those
// with two kinds of output round the same f32 to the nearest bfloat16, ties to even, where the
// output is uint16_t. NaN and infinity stay visible: no kernel makes a finite result of them,
// except an exponential of -infinity, which is 0.
#ifndef SALIENT_CORE_KERNELS_FORWARD_KERNELS_H_
#define SALIENT_CORE_KERNELS_FORWARD_KERNELS_H_

#include <cstdint>

namespace salient {

// f32 to the nearest bfloat16, ties to even; NaN stays NaN. And back, exactly.
void RoundToBf16(const float* values, int64_t n, uint16_t* out);
void WidenBf16(const uint16_t* bits, int64_t n, float* out);

// sum[i] += change[i].
void AddTo(const float* change, int64_t n, float* sum);

// x / sqrt(mean(x^2) + epsilon) * weight, the mean in f64.
void NormalizeRow(const float* x, const float* weight, int64_t n, double epsilon, float* out);
void NormalizeRow(const float* x, const float* weight, int64_t n, double epsilon, uint16_t* out);

// Turns `heads` heads of 2 `half` channels in place: channel i with channel i + half by the angle
// whose cosine and sine are cosines[i] and sines[i].
void RotateHeads(const float* cosines, const float* sines, int64_t half, int64_t heads,
                 float* values);

// gate / (1 + exp(-gate)) * up. Its relative error is below 2^-21 where gate > -87; below, the
// result is smaller than 2^-126 |gate up| and wrong.
void SiluProduct(const float* gate, const float* up, int64_t n, float* out);
void SiluProduct(const float* gate, const float* up, int64_t n, uint16_t* out);

// exp(x) with a relative error below 2^-22; 0 below -87, exp(88) above 88. `out` may be `x`.
void Exponentials(const float* x, int64_t n, float* out);

// A softmax whose row comes in parts.
struct SoftmaxState {
  float largest;   // It is that of the scores so far, -infinity before the first.
  double sum = 0;  // It adds up exp((score - largest) factor).
};

// The next n scores, a multiple of kSoftmaxStep of which at least one is above -infinity: each
// becomes exp((score - largest) factor). What was computed with the part before has to be
// multiplied by the result, because `largest` may have grown. factor > 0.
inline constexpr int64_t kSoftmaxStep = 64;
float SoftmaxPart(float* scores, int64_t n, float factor, SoftmaxState& state);

// values[i] * factor.
void Scale(const float* values, float factor, int64_t n, float* out);
void Scale(const float* values, float factor, int64_t n, uint16_t* out);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_FORWARD_KERNELS_H_
