// Computes sums of values of any magnitude that are the same bits in any order: binned reproducible
// summation (Demmel and Nguyen 2013), two bins in one 64-bit word.
//
// A value p is cut into digits at fixed powers of two, from the largest down:
//
//   d_b = round(p_b / 2^(23 b)),  p_(b-1) = p_b - d_b 2^(23 b),  b falling.
//
// The digits depend on p alone. In frame t a word holds two sums, that of the digits d_(t-1) in its
// upper 24 bits and that of d_(t-2) in its lower 40. The frame follows from the largest bound of
// any summand and from how many there are, so it depends on the set of summands alone, and so do
// both sums. A later summand that needs a higher frame moves the upper sum to the lower place: it
// is what the lower sum of that frame would have been, because no earlier summand reaches half of
// 2^(23 t) and their digits above are 0.
//
// What is below 2^(23 (t-2)) is lost: 2^-22 of (bound times number of summands) or less, for each
// summand. Sums of up to 131071 summands fit.
#ifndef SALIENT_CORE_KERNELS_BINNED_SUMS_H_
#define SALIENT_CORE_KERNELS_BINNED_SUMS_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>

namespace salient {

inline constexpr int kDigitBits = 23;
inline constexpr int kLowerBits = 40;
inline constexpr int64_t kMostSummands = (int64_t{1} << (kLowerBits - kDigitBits)) - 1;

// Bounds are told by exponents, so that those of products are sums; kNoBound stands for 0. It is
// low enough for every f32, squared or not, and high enough for a scale that f64 can hold.
inline constexpr int kNoBound = -320;

// Returns the least e with |p| < 2^e for p that `bound`, 0 or normal, bounds to f32 rounding.
inline int BoundExponent(double bound) {
  if (!(bound > 0)) return kNoBound;
  return static_cast<int>(std::bit_cast<uint64_t>(1.0625 * bound) >> 52) - 1022;
}

// Returns the least L with count <= 2^L.
inline int CountExponent(int64_t count) {
  return count <= 1 ? 0 : std::bit_width(static_cast<uint64_t>(count - 1));
}

// Returns the frame t of summands below 2^(doubled / 2), 2^count_exponent of them: the least with 2
// |their sum| <= 2^(23 t). Products of two columns come with the exponents of both squares.
inline int FrameOf(int doubled, int count_exponent) {
  constexpr int kPeriod = 2 * kDigitBits;
  constexpr int kOffset = 64;  // It makes the dividend positive.
  return (doubled + 2 * count_exponent + 2 + kPeriod - 1 + kOffset * kPeriod) / kPeriod - kOffset;
}

// Returns 2^exponent, for exponents of normal numbers.
inline constexpr double PowerOfTwo(int exponent) {
  return std::bit_cast<double>(static_cast<uint64_t>(1023 + exponent) << 52);
}

// Adds in two's complement, without the overflow that C++ leaves undefined.
inline int64_t AddWords(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

inline int64_t LowerSum(int64_t word) {
  return static_cast<int64_t>(static_cast<uint64_t>(word) << (64 - kLowerBits)) >>
         (64 - kLowerBits);
}
inline int64_t UpperSum(int64_t word) { return AddWords(word, -LowerSum(word)) >> kLowerBits; }

// An addition to kMagic rounds to a whole number, ties to even, which then stands in the lowest
// bits of the sum, in two's complement.
inline constexpr double kMagic = 0x1.8p52;
inline constexpr uint64_t kMagicBits = std::bit_cast<uint64_t>(kMagic);
// This is for what will be shifted by kLowerBits: it takes kMagicBits off the word.
inline constexpr double kUpperMagic = kMagic - static_cast<double>(kMagicBits >> kLowerBits);

// Returns the word of one summand, divided by 2^(23 (t - 2)) already or, in WordOf, as it is.
inline int64_t WordOfUnits(double units) {
  const double upper = units * PowerOfTwo(-kDigitBits) + kUpperMagic;
  const double rest = units - (upper - kUpperMagic) * PowerOfTwo(kDigitBits);
  return static_cast<int64_t>((std::bit_cast<uint64_t>(upper) << kLowerBits) +
                              std::bit_cast<uint64_t>(rest + kMagic));
}
inline int64_t WordOf(double p, int frame) {
  return WordOfUnits(p * PowerOfTwo(-kDigitBits * (frame - 2)));
}

// Returns whether `word` can be that of so many summands.
inline bool IsSumOf(int64_t word, int64_t summands) {
  const int64_t largest = int64_t{1} << (kDigitBits - 1);
  return std::abs(LowerSum(word)) <= summands * largest &&
         std::abs(UpperSum(word)) <= largest + summands;
}

// Returns what `word` is in a frame that is `frames` higher.
inline int64_t RaisedWord(int64_t word, int frames) {
  if (frames <= 0) return word;
  return frames == 1 ? UpperSum(word) : 0;
}

inline double ValueOf(int64_t word, int frame) {
  const double lower = static_cast<double>(LowerSum(word));
  const double upper = static_cast<double>(UpperSum(word)) * PowerOfTwo(kDigitBits);
  return (upper + lower) * PowerOfTwo(kDigitBits * (frame - 2));
}

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_BINNED_SUMS_H_
