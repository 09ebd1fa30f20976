#include "core/kernels/token_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/token_kernels.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The largest x[i] & mask.
uint16_t LargestMasked(const uint16_t* x, int64_t n, uint16_t mask) {
  const hn::ScalableTag<uint16_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto largest = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    largest = hn::Max(largest, hn::And(hn::LoadU(d, x + i), hn::Set(d, mask)));
  }
  HWY_ALIGN uint16_t each[HWY_MAX_BYTES / sizeof(uint16_t)];
  hn::Store(largest, d, each);
  uint16_t result = *std::max_element(each, each + lanes);
  for (; i < n; ++i) result = std::max(result, static_cast<uint16_t>(x[i] & mask));
  return result;
}

ChannelSums SumBf16Impl(const uint16_t* x, int64_t n) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> d32;
  const hn::Rebind<uint32_t, decltype(d)> d_bits;
  const hn::Rebind<uint16_t, decltype(d)> d16;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto load = [&](const uint16_t* p) HWY_ATTR {
    const auto bits = hn::ShiftLeft<16>(hn::PromoteTo(d_bits, hn::LoadU(d16, p)));
    return hn::PromoteTo(d, hn::BitCast(d32, bits));
  };
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  auto abs0 = hn::Zero(d);
  auto abs1 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = load(x + i);
    const auto b = load(x + i + lanes);
    sum0 = hn::Add(sum0, a);
    sum1 = hn::Add(sum1, b);
    abs0 = hn::Add(abs0, hn::Abs(a));
    abs1 = hn::Add(abs1, hn::Abs(b));
  }
  ChannelSums sums;
  sums.sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  sums.sum_abs = hn::GetLane(hn::SumOfLanes(d, hn::Add(abs0, abs1)));
  for (; i < n; ++i) {
    const double value = std::bit_cast<float>(static_cast<uint32_t>(x[i]) << 16);
    sums.sum += value;
    sums.sum_abs += std::fabs(value);
  }
  // Magnitudes are ordered as their bits, infinity above all numbers and NaN above that.
  const uint32_t largest = LargestMasked(x, n, 0x7FFF);
  sums.max_abs = std::bit_cast<float>(largest << 16);
  return sums;
}

template <class D>
HWY_INLINE void AddColumnSumsStep(D d, const float* x, int64_t tokens, int64_t stride, double* sum,
                                  double* sum_abs, float* max_abs) {
  const hn::Rebind<float, D> d32;
  const hn::Rebind<uint32_t, D> d_bits;
  auto total = hn::LoadU(d, sum);
  auto total_abs = hn::LoadU(d, sum_abs);
  auto largest = hn::BitCast(d_bits, hn::LoadU(d32, max_abs));
  for (int64_t t = 0; t < tokens; ++t) {
    const auto narrow = hn::LoadU(d32, x + t * stride);
    const auto value = hn::PromoteTo(d, narrow);
    total = hn::Add(total, value);
    total_abs = hn::Add(total_abs, hn::Abs(value));
    largest = hn::Max(largest, hn::BitCast(d_bits, hn::Abs(narrow)));
  }
  hn::StoreU(total, d, sum);
  hn::StoreU(total_abs, d, sum_abs);
  hn::StoreU(hn::BitCast(d32, largest), d32, max_abs);
}

void AddColumnSumsImpl(const float* x, int64_t tokens, int64_t columns, int64_t stride, double* sum,
                       double* sum_abs, float* max_abs) {
  const hn::CappedTag<double, 8> d;
  const hn::CappedTag<double, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    AddColumnSumsStep(d, x + c, tokens, stride, sum + c, sum_abs + c, max_abs + c);
  }
  for (; c < columns; ++c) {
    AddColumnSumsStep(one, x + c, tokens, stride, sum + c, sum_abs + c, max_abs + c);
  }
}

bool AllFinite16Impl(const uint16_t* x, int64_t n, uint16_t exponent) {
  return LargestMasked(x, n, exponent) < exponent;
}

bool AllFinite32Impl(const float* x, int64_t n) {
  constexpr uint32_t kExponent = 0x7F800000;
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> d_bits;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto exponent = hn::Set(d_bits, kExponent);
  auto largest = hn::Zero(d_bits);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto bits = hn::BitCast(d_bits, hn::LoadU(d, x + i));
    largest = hn::Max(largest, hn::And(bits, exponent));
  }
  if (!hn::AllTrue(d_bits, hn::Lt(largest, exponent))) return false;
  for (; i < n; ++i) {
    if ((std::bit_cast<uint32_t>(x[i]) & kExponent) == kExponent) return false;
  }
  return true;
}

// Fills scales[j] = 2^(-23 (t - 2)), where frame t is row_bound + column_bounds[j], rounded up.
HWY_INLINE void FillScales(double row_bound, const double* column_bounds, int64_t columns,
                           double* scales) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<int64_t, decltype(d)> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= columns; j += lanes) {
    // The exponent of the scale is written by adding 1.5 * 2^52, which leaves an integer in the low
    // bits, and shifting it to where a double has its exponent.
    const auto frame = hn::Ceil(hn::Add(hn::LoadU(d, column_bounds + j), hn::Set(d, row_bound)));
    const auto exponent = hn::MulAdd(frame, hn::Set(d, -double{kDigitBits}),
                                     hn::Set(d, kMagic + 1023 + 2 * kDigitBits));
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<52>(hn::BitCast(di, exponent))), d, scales + j);
  }
  for (; j < columns; ++j) {
    const int frame = static_cast<int>(std::ceil(column_bounds[j] + row_bound));
    scales[j] = PowerOfTwo(-kDigitBits * (frame - 2));
  }
}

// Fetches what stands in `ahead`, a row of `columns` too, line by line as it goes: all at once, the
// lines would wait for each other.
template <class T>
HWY_INLINE void AddBinnedRow(const T* from, const double* scales, int64_t columns, int64_t* to,
                             const int64_t* ahead) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<T, decltype(d)> dt;
  const hn::Rebind<int64_t, decltype(d)> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto magic = hn::Set(d, kMagic);
  const auto upper_magic = hn::Set(d, kUpperMagic);
  int64_t j = 0;
  for (; j + lanes <= columns; j += lanes) {
    hwy::Prefetch(ahead + j);
    // Adding and taking off a magic number rounds to a multiple of its last place. The upper digit
    // is rounded off first, and the lower one is what that left, which f64 holds exactly.
    auto units = hn::LoadU(d, scales + j);
    if constexpr (std::is_same_v<T, double>) {
      units = hn::Mul(units, hn::LoadU(dt, from + j));
    } else {
      units = hn::Mul(units, hn::PromoteTo(d, hn::LoadU(dt, from + j)));
    }
    const auto upper = hn::MulAdd(units, hn::Set(d, 0x1p-23), upper_magic);
    const auto rest = hn::NegMulAdd(hn::Sub(upper, upper_magic), hn::Set(d, 0x1p23), units);
    const auto lower = hn::BitCast(di, hn::Add(rest, magic));
    const auto word = hn::Add(hn::ShiftLeft<kLowerBits>(hn::BitCast(di, upper)), lower);
    hn::StoreU(hn::Add(hn::LoadU(di, to + j), word), di, to + j);
  }
  for (; j < columns; ++j) to[j] = AddWords(to[j], WordOfUnits(from[j] * scales[j]));
}

void AddBinnedRowsImpl(const BinnedRows& rows, int64_t* total, int64_t total_ld) {
  constexpr int64_t kAhead = 4;  // They are rows.
  constexpr int64_t kLine = 8;   // They are words.
  // Few exponents occur in a panel, so scales are kept by exponent.
  constexpr int64_t kSlots = 8;
  HWY_ALIGN double scales[kSlots * kMostBinnedColumns];
  // Rows of scales lie at a stride that keeps them out of the same sets of a cache.
  const int64_t stride = (rows.columns + kLine - 1) / kLine * kLine;
  int32_t exponents[kSlots];
  bool filled[kSlots] = {};
  for (int64_t i = 0; i < rows.rows; ++i) {
    // Rows of a triangle begin a little before the diagonal, where vectors do.
    const int64_t first = rows.upper_triangle ? i / 16 * 16 : 0;
    int64_t* to = total + i * total_ld + first;
    const int64_t ahead = std::min(kAhead, rows.rows - 1 - i) * total_ld;
    // A slot is chosen by the exponent's low bits, so that neighbouring exponents do not push each
    // other out.
    const int32_t exponent = rows.row_exponents[i];
    const int64_t slot = static_cast<uint32_t>(exponent) % kSlots;
    if (!filled[slot] || exponents[slot] != exponent) {
      FillScales(RowFrameBound(exponent, rows.count_exponent), rows.column_bounds, rows.columns,
                 scales + slot * stride);
      exponents[slot] = exponent;
      filled[slot] = true;
    }
    AddBinnedRow(rows.partial + i * rows.ld + first, scales + slot * stride + first,
                 rows.columns - first, to, to + ahead);
  }
}

void AddBinnedSumsImpl(const double* sums, const double* column_bounds, int64_t columns,
                       int count_exponent, int64_t* total) {
  HWY_ALIGN double scales[kMostBinnedColumns];
  FillScales(RowFrameBound(0, count_exponent), column_bounds, columns, scales);
  AddBinnedRow(sums, scales, columns, total, total);
}

int64_t SignsFromBitsImpl(const uint16_t* words, int64_t n, int bit, uint16_t* out) {
  constexpr uint16_t kOne = 0x3F80;
  const hn::ScalableTag<uint16_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto weight = hn::Set(d, static_cast<uint16_t>(1 << (15 - bit)));
  const auto top = hn::Set(d, static_cast<uint16_t>(0x8000));
  auto negative = hn::Zero(d);  // Each counts n / lanes at most: no tile of tokens overflows.
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    // A product, where a shift by a variable is slow or missing for 16 bits.
    const auto sign = hn::And(hn::Mul(hn::LoadU(d, words + i), weight), top);
    hn::StoreU(hn::Or(sign, hn::Set(d, kOne)), d, out + i);
    negative = hn::Add(negative, hn::ShiftRight<15>(sign));
  }
  HWY_ALIGN uint16_t each[HWY_MAX_BYTES / sizeof(uint16_t)];
  hn::Store(negative, d, each);
  int64_t count = 0;
  for (int64_t lane = 0; lane < lanes; ++lane) count += each[lane];
  for (; i < n; ++i) {
    const uint16_t sign = static_cast<uint16_t>((words[i] >> bit & 1) << 15);
    out[i] = static_cast<uint16_t>(sign | kOne);
    count += sign >> 15;
  }
  return count;
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(SumBf16Impl);
HWY_EXPORT(AddColumnSumsImpl);
HWY_EXPORT(AllFinite16Impl);
HWY_EXPORT(AllFinite32Impl);
HWY_EXPORT(AddBinnedRowsImpl);
HWY_EXPORT(AddBinnedSumsImpl);
HWY_EXPORT(SignsFromBitsImpl);

ChannelSums SumBf16(const uint16_t* x, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(SumBf16Impl)(x, n);
}

void AddColumnSums(const float* x, int64_t tokens, int64_t columns, int64_t stride, double* sum,
                   double* sum_abs, float* max_abs) {
  HWY_DYNAMIC_DISPATCH(AddColumnSumsImpl)(x, tokens, columns, stride, sum, sum_abs, max_abs);
}

bool AllFinite16(const uint16_t* x, int64_t n, uint16_t exponent) {
  return HWY_DYNAMIC_DISPATCH(AllFinite16Impl)(x, n, exponent);
}

bool AllFinite32(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(AllFinite32Impl)(x, n); }

void AddBinnedRows(const BinnedRows& rows, int64_t* total, int64_t total_ld) {
  HWY_DYNAMIC_DISPATCH(AddBinnedRowsImpl)(rows, total, total_ld);
}

void AddBinnedSums(const double* sums, const double* column_bounds, int64_t columns,
                   int count_exponent, int64_t* total) {
  HWY_DYNAMIC_DISPATCH(AddBinnedSumsImpl)(sums, column_bounds, columns, count_exponent, total);
}

int64_t SignsFromBits(const uint16_t* words, int64_t n, int bit, uint16_t* out) {
  return HWY_DYNAMIC_DISPATCH(SignsFromBitsImpl)(words, n, bit, out);
}

}  // namespace salient
#endif  // HWY_ONCE
