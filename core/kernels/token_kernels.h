// Inner loops over tiles of tokens: their plain sums, and the signs that sketch them. Laying them
// out: transpose_kernels.h.
//
// Vectorized, dispatched at run time. Element-wise kernels give the same result on every
// instruction set; sums may differ in the last bits between sets, never between calls. All are
// thread-safe and allocate nothing.
#ifndef SALIENT_CORE_KERNELS_TOKEN_KERNELS_H_
#define SALIENT_CORE_KERNELS_TOKEN_KERNELS_H_

#include <cstdint>

#include "core/kernels/binned_sums.h"

namespace salient {

// Holds what one channel adds up to.
struct ChannelSums {
  double sum = 0;
  double sum_abs = 0;
  float max_abs = 0;  // It is not finite if any value is not.
};

// Sums the BF16 bits x[0 .. n) in f64.
ChannelSums SumBf16(const uint16_t* x, int64_t n);

// Adds tokens x [tokens, columns] of row stride `stride`, f32, to the sums of their columns, each
// in the order of tokens. A max_abs that is not finite stays so, with what is not.
void AddColumnSums(const float* x, int64_t tokens, int64_t columns, int64_t stride, double* sum,
                   double* sum_abs, float* max_abs);

// Returns whether no element is NaN or an infinity: no bits of `exponent`, a mask, are all set.
bool AllFinite16(const uint16_t* x, int64_t n, uint16_t exponent);
bool AllFinite32(const float* x, int64_t n);

// A frame of binned_sums.h is the sum of a row's bound and a column's, rounded up. Every row's has
// what FrameOf adds; a half of the least difference is taken off, so that the sum need not be
// exact.
inline constexpr double kFrameShare = 1 / (2.0 * kDigitBits);
inline double ColumnFrameBound(int doubled) { return doubled * kFrameShare; }
inline double RowFrameBound(int doubled, int count_exponent) {
  return (doubled + 2 * count_exponent + 1.5) * kFrameShare;
}

// Summands partial[i * ld + j], for i in [0, rows) and j in [0, columns), whose frames are FrameOf
// (row_exponents[i] + a column's, count_exponent). Borrows.
inline constexpr int64_t kMostBinnedColumns = 1024;
struct BinnedRows {
  const float* partial;
  int64_t rows;
  int64_t columns;  // They are at most kMostBinnedColumns.
  int64_t ld;
  const int32_t* row_exponents;
  const double* column_bounds;  // They are ColumnFrameBound of the columns.
  int count_exponent;
  bool upper_triangle;  // What is below the diagonal does not matter.
};

// Adds the words of `rows` to total[i * total_ld + j], the same bits on every instruction set.
// `total` is fetched ahead: it comes from far away.
void AddBinnedRows(const BinnedRows& rows, int64_t* total, int64_t total_ld);

// Adds the words of one row of summands that are f64, in the frames that a row of exponent 0 has,
// to total[j]. Of at most kMostBinnedColumns.
void AddBinnedSums(const double* sums, const double* column_bounds, int64_t columns,
                   int count_exponent, int64_t* total);

// Signs of one row of a sketch as BF16: out[t] is -1 where bit `bit` of words[t] is set, else 1.
// Returns how many are -1. 0 <= bit < 16.
int64_t SignsFromBits(const uint16_t* words, int64_t n, int bit, uint16_t* out);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_TOKEN_KERNELS_H_
