// Inner loops over tiles of tokens: their plain sums, and the signs that sketch them. Laying them
// out: transpose_kernels.h.
//
// Vectorized, dispatched at run time. Element-wise kernels give the same result on every
// instruction set; sums may differ in the last bits between sets, never between calls. All are
// thread-safe and allocate nothing.
#ifndef SALIENT_CORE_LINALG_TOKEN_KERNELS_H_
#define SALIENT_CORE_LINALG_TOKEN_KERNELS_H_

#include <cstdint>

namespace salient {

// What one channel adds up to.
struct ChannelSums {
  double sum = 0;
  double sum_abs = 0;
  float max_abs = 0;  // not finite if any value is not
};

// Of the BF16 bits x[0 .. n); sums in f64.
ChannelSums SumBf16(const uint16_t* x, int64_t n);

// Adds tokens x [tokens, columns] of row stride `stride`, f32, to the sums of their columns, each
// in the order of tokens. A max_abs that is not finite stays so, with what is not.
void AddColumnSums(const float* x, int64_t tokens, int64_t columns, int64_t stride, double* sum,
                   double* sum_abs, float* max_abs);

// Whether no element is NaN or an infinity: no bits of `exponent`, a mask, are all set.
bool AllFinite16(const uint16_t* x, int64_t n, uint16_t exponent);
bool AllFinite32(const float* x, int64_t n);

// total[i * total_ld + j] += partial[i * ld + j] rounded to a multiple of 2^-24, for i in [0, rows)
// and j in [0, columns). Such sums are exact, hence independent of order, while they stay below
// 2^29. `total` is fetched ahead: it comes from far away.
void AddRowsRoundedTo24(const float* partial, int64_t rows, int64_t columns, int64_t ld,
                        double* total, int64_t total_ld);

// Signs of one row of a sketch as BF16: out[t] is -1 where bit `bit` of words[t] is set, else 1.
// Returns how many are -1. 0 <= bit < 16.
int64_t SignsFromBits(const uint16_t* words, int64_t n, int bit, uint16_t* out);

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_TOKEN_KERNELS_H_
