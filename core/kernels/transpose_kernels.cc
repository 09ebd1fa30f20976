#include "core/kernels/transpose_kernels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/transpose_kernels.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
constexpr int64_t kSide = 8;  // A 128-bit block holds eight elements of 16 bits.

// Eight tokens by as many columns as a vector holds: an 8 x 8 transpose in every 128-bit block.
template <class D>
HWY_INLINE void TransposeStrip(D d, const uint16_t* x, int64_t stride, uint16_t* out, int64_t ld) {
  const hn::Repartition<uint32_t, D> d32;
  const hn::Repartition<uint64_t, D> d64;
  const hn::Full128<uint16_t> d_block;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN uint16_t columns[HWY_MAX_BYTES / sizeof(uint16_t)];
  // A vector holds the same column of each block, eight tokens long; they go to rows of `out` that
  // lie eight rows apart.
  const auto store = [&](int64_t column, auto tokens) HWY_ATTR {
    hn::Store(hn::BitCast(d, tokens), d, columns);
    for (int64_t block = 0; block < lanes; block += kSide) {
      hn::StoreU(hn::Load(d_block, columns + block), d_block, out + (block + column) * ld);
    }
  };
  // From pairs of tokens side by side, four columns of each block.
  const auto store_half = [&](int64_t column, auto p0, auto p1, auto p2, auto p3) HWY_ATTR {
    const auto a = hn::BitCast(d32, p0);
    const auto b = hn::BitCast(d32, p1);
    const auto e = hn::BitCast(d32, p2);
    const auto f = hn::BitCast(d32, p3);
    const auto first_low = hn::BitCast(d64, hn::InterleaveLower(d32, a, b));
    const auto first_high = hn::BitCast(d64, hn::InterleaveUpper(d32, a, b));
    const auto last_low = hn::BitCast(d64, hn::InterleaveLower(d32, e, f));
    const auto last_high = hn::BitCast(d64, hn::InterleaveUpper(d32, e, f));
    store(column, hn::InterleaveLower(d64, first_low, last_low));
    store(column + 1, hn::InterleaveUpper(d64, first_low, last_low));
    store(column + 2, hn::InterleaveLower(d64, first_high, last_high));
    store(column + 3, hn::InterleaveUpper(d64, first_high, last_high));
  };
  const auto t0 = hn::LoadU(d, x);
  const auto t1 = hn::LoadU(d, x + stride);
  const auto t2 = hn::LoadU(d, x + 2 * stride);
  const auto t3 = hn::LoadU(d, x + 3 * stride);
  const auto t4 = hn::LoadU(d, x + 4 * stride);
  const auto t5 = hn::LoadU(d, x + 5 * stride);
  const auto t6 = hn::LoadU(d, x + 6 * stride);
  const auto t7 = hn::LoadU(d, x + 7 * stride);
  store_half(0, hn::InterleaveLower(d, t0, t1), hn::InterleaveLower(d, t2, t3),
             hn::InterleaveLower(d, t4, t5), hn::InterleaveLower(d, t6, t7));
  store_half(4, hn::InterleaveUpper(d, t0, t1), hn::InterleaveUpper(d, t2, t3),
             hn::InterleaveUpper(d, t4, t5), hn::InterleaveUpper(d, t6, t7));
}

#endif  // HWY_TARGET != HWY_SCALAR

void Transpose16Impl(const uint16_t* x, int64_t tokens, int64_t columns, int64_t stride,
                     uint16_t* out, int64_t ld) {
  int64_t whole_tokens = 0;
  int64_t whole_columns = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<uint16_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  whole_tokens = tokens / kSide * kSide;
  whole_columns = columns / lanes * lanes;
  // 32 tokens make one cache line of each column.
  constexpr int64_t kStrip = 32;
  for (int64_t strip = 0; strip < whole_tokens; strip += kStrip) {
    const int64_t end = std::min(strip + kStrip, whole_tokens);
    for (int64_t c = 0; c < whole_columns; c += lanes) {
      for (int64_t t = strip; t < end; t += kSide) {
        // Tokens lie pages apart, where no hardware looks ahead.
        for (int64_t i = t + kStrip; i < std::min(t + kStrip + kSide, tokens); ++i) {
          hwy::Prefetch(x + i * stride + c);
        }
        TransposeStrip(d, x + t * stride + c, stride, out + c * ld + t, ld);
      }
    }
  }
#endif
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = t < whole_tokens ? whole_columns : 0; c < columns; ++c) {
      out[c * ld + t] = x[t * stride + c];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(Transpose16Impl);

void Transpose16(const uint16_t* x, int64_t tokens, int64_t columns, int64_t stride, uint16_t* out,
                 int64_t ld) {
  HWY_DYNAMIC_DISPATCH(Transpose16Impl)(x, tokens, columns, stride, out, ld);
}

}  // namespace salient
#endif  // HWY_ONCE
