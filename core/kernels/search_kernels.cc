#include "core/kernels/search_kernels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/search_kernels.cc"
#include "core/tensor/dtype.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Full = hn::ScalableTag<float>;
using One = hn::CappedTag<float, 1>;

void ScaledMinMaxImpl(const float* w, const float* s, int64_t groups, int64_t group_size, float* lo,
                      float* hi) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t g = 0; g < groups; ++g, w += group_size, s += group_size) {
    // Products are formed in registers, so that no scaled copy of w is written for a candidate.
    float low = w[0] * s[0];
    float high = low;
    int64_t i = 0;
    if (group_size >= lanes) {
      auto lows = hn::Set(d, low);
      auto highs = lows;
      for (; i + lanes <= group_size; i += lanes) {
        const auto v = hn::Mul(hn::LoadU(d, w + i), hn::LoadU(d, s + i));
        lows = hn::Min(lows, v);
        highs = hn::Max(highs, v);
      }
      low = hn::GetLane(hn::MinOfLanes(d, lows));
      high = hn::GetLane(hn::MaxOfLanes(d, highs));
    }
    for (; i < group_size; ++i) {
      low = std::min(low, w[i] * s[i]);
      high = std::max(high, w[i] * s[i]);
    }
    lo[g] = low;
    hi[g] = high;
  }
}

// Non-negative finite values rounded to a dtype of 16 bits that keeps the upper part of a
// mantissa: `dropped` bits go, to nearest, ties to even.
template <int kDropped, class D, class V>
HWY_INLINE V RoundMantissa(D d, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  // Bits of a non-negative float are ordered as its value, so a carry out of the mantissa rounds up
  // to the next exponent.
  const auto odd = hn::And(hn::ShiftRight<kDropped>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, (1u << (kDropped - 1)) - 1)), odd);
  return hn::BitCast(d, hn::AndNot(hn::Set(du, (1u << kDropped) - 1), rounded));
}

template <class D, class V>
HWY_INLINE V RoundToStored(D d, V v, DType dtype) {
  if (dtype == DType::kBF16) return RoundMantissa<16>(d, v);
  if (dtype != DType::kF16) return v;
  // Below 2^-14 an F16 holds multiples of 2^-24, which is the last bit of a f32 at 0.5.
  const auto half = hn::Set(d, 0.5f);
  const auto subnormal = hn::Sub(hn::Add(v, half), half);
  const auto normal = RoundMantissa<13>(d, v);
  const auto finite = hn::IfThenElse(hn::Lt(v, hn::Set(d, 0x1p-14f)), subnormal, normal);
  return hn::IfThenElse(hn::Ge(v, hn::Set(d, 65520.0f)), hn::Inf(d), finite);
}

template <class D>
HWY_INLINE void FitAffinesStep(D d, const float* lo, const float* hi, float shrink,
                               const WeightFormat& format, float* scales, float* zero_points) {
  const auto zero = hn::Zero(d);
  const auto one = hn::Set(d, 1.0f);
  const auto max_code = hn::Set(d, static_cast<float>(format.MaxCode()));
  const auto middle = hn::Set(d, static_cast<float>(1 << (format.bits - 1)));
  const auto factor = hn::Set(d, shrink);
  const auto low = hn::Mul(hn::Min(hn::LoadU(d, lo), zero), factor);
  const auto high = hn::Mul(hn::Max(hn::LoadU(d, hi), zero), factor);
  const auto width = format.symmetric ? hn::Mul(hn::Set(d, 2.0f), hn::Max(hn::Sub(zero, low), high))
                                      : hn::Sub(high, low);
  auto fitted = RoundToStored(d, hn::Div(width, max_code), format.scale_dtype);
  // An F16 scale that was rounded down so far that a whole code is cut off goes one up, as
  // FitAffine.
  if (format.scale_dtype == DType::kF16) {
    const auto cut = hn::Lt(hn::Mul(hn::Add(max_code, one), fitted), width);
    fitted = hn::IfThenElse(cut, hn::Add(fitted, hn::Set(d, kLeastF16)), fitted);
  }
  const auto holds = hn::Gt(fitted, zero);
  const auto scale = hn::IfThenElse(holds, fitted, one);
  const auto steps = hn::Round(hn::Div(hn::Sub(zero, low), scale));
  const auto zero_point = hn::IfThenElseZero(holds, hn::Min(hn::Max(steps, zero), max_code));
  hn::StoreU(scale, d, scales);
  hn::StoreU(format.symmetric ? middle : zero_point, d, zero_points);
}

void FitAffinesImpl(const float* lo, const float* hi, float shrink, int64_t n,
                    const WeightFormat& format, float* scales, float* zero_points) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    FitAffinesStep(d, lo + i, hi + i, shrink, format, scales + i, zero_points + i);
  }
  for (; i < n; ++i) {
    FitAffinesStep(One(), lo + i, hi + i, shrink, format, scales + i, zero_points + i);
  }
}

template <class D, class V>
HWY_INLINE void StoreBf16(D d, V v, uint16_t* bits) {
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint16_t, D> d16;
  const auto upper = hn::ShiftRight<16>(hn::BitCast(du, RoundMantissa<16>(d, v)));
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, upper)), d16, bits);
}

// Holds what a vector of lanes holds of one group's map.
template <class D>
struct Map {
  Map(D d, float scale_of_group, float zero_point, float max_code)
      : scale(hn::Set(d, scale_of_group)),
        inverse(hn::Set(d, 1.0f / scale_of_group)),
        least(hn::Set(d, -zero_point)),
        most(hn::Set(d, max_code - zero_point)) {}
  hn::Vec<D> scale, inverse, least, most;
};

// The errors of columns j and on of a row, added to both sums.
template <class D, class V>
HWY_INLINE V RoundStep(D d, const RoundingPanel& panel, const float* w, int64_t j,
                       const Map<D>& map, V& squares, V& shifts) {
  const auto v = hn::Mul(hn::LoadU(d, w + j), hn::LoadU(d, panel.s + j));
  // A product with the inverse instead of a division, because this only compares candidates: where
  // it moves a code near a tie, the error is about as large on either side.
  const auto steps = hn::Round(hn::Mul(v, map.inverse));
  const auto offset = hn::Min(hn::Max(steps, map.least), map.most);
  const auto error = hn::Mul(hn::MulSub(offset, map.scale, v), hn::LoadU(d, panel.inverse_s + j));
  squares = hn::MulAdd(hn::Mul(error, error), hn::LoadU(d, panel.diagonal + j), squares);
  shifts = hn::MulAdd(error, hn::LoadU(d, panel.mean + j), shifts);
  return error;
}

// Two vectors at once: rounded by adding half of the last place, their upper halves side by side.
template <class D, class V>
HWY_INLINE void StorePairBf16([[maybe_unused]] D d, V first, V second, uint16_t* bits) {
#if HWY_TARGET == HWY_SCALAR  // It has no vectors of two.
  StoreBf16(d, first, bits);
  StoreBf16(d, second, bits + 1);
#else
  const hn::RebindToUnsigned<D> du;
  const hn::Repartition<uint16_t, D> d16;
  const auto half = hn::Set(du, 0x8000u);
  const auto lower = hn::BitCast(d16, hn::Add(hn::BitCast(du, first), half));
  const auto upper = hn::BitCast(d16, hn::Add(hn::BitCast(du, second), half));
  hn::StoreU(hn::ConcatOdd(d16, upper, lower), d16, bits);
#endif
}

template <bool kWrites>
HWY_INLINE void RoundPanelRows(const RoundingPanel& panel, uint16_t* errors, double* squares,
                               double* shifts) {
  const Full d;
  const One d1;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t first_group = panel.begin / panel.group_size;
  const int64_t first_end = (first_group + 1) * panel.group_size - panel.begin;
  const float* w = panel.w;
  int64_t repeats = panel.repeats;
  for (int64_t t = 0; t < panel.rows; ++t) {
    uint16_t* out = kWrites ? errors + t * panel.columns : nullptr;
    const float* scale = panel.scales + t * panel.maps_stride + first_group;
    const float* zero_point = panel.zero_points + t * panel.maps_stride + first_group;
    auto squares0 = hn::Zero(d), squares1 = hn::Zero(d);
    auto shifts0 = hn::Zero(d), shifts1 = hn::Zero(d);
    auto squares_of_rest = hn::Zero(d1), shifts_of_rest = hn::Zero(d1);
    int64_t j = 0;
    // One map serves until its group ends, so that the inner loop loads no scales.
    for (int64_t end = first_end; j < panel.columns; end += panel.group_size) {
      end = std::min(end, panel.columns);
      const Map<Full> map(d, *scale, *zero_point, panel.max_code);
      for (; j + 2 * lanes <= end; j += 2 * lanes) {
        const auto first = RoundStep(d, panel, w, j, map, squares0, shifts0);
        const auto second = RoundStep(d, panel, w, j + lanes, map, squares1, shifts1);
        if constexpr (kWrites) StorePairBf16(d, first, second, out + j);
      }
      if (j < end) {
        const Map<One> map_of_rest(d1, *scale, *zero_point, panel.max_code);
        for (; j < end; ++j) {
          const auto e = RoundStep(d1, panel, w, j, map_of_rest, squares_of_rest, shifts_of_rest);
          if constexpr (kWrites) StoreBf16(d1, e, out + j);
        }
      }
      ++scale;
      ++zero_point;
    }
    squares[t] +=
        hn::GetLane(hn::SumOfLanes(d, hn::Add(squares0, squares1))) + hn::GetLane(squares_of_rest);
    shifts[t] +=
        hn::GetLane(hn::SumOfLanes(d, hn::Add(shifts0, shifts1))) + hn::GetLane(shifts_of_rest);
    // `repeats` candidates of one row of w follow each other and find it in the cache.
    if (--repeats == 0) {
      repeats = panel.repeats;
      w += panel.w_stride;
    }
  }
}

void RoundPanelImpl(const RoundingPanel& panel, uint16_t* errors, double* squares, double* shifts) {
  if (errors == nullptr) {
    RoundPanelRows<false>(panel, errors, squares, shifts);
  } else {
    RoundPanelRows<true>(panel, errors, squares, shifts);
  }
}

void NarrowToBf16Impl(const float* values, int64_t n, float factor, uint16_t* bits) {
  const Full d;
  const One d1;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    StoreBf16(d, hn::Mul(hn::LoadU(d, values + i), hn::Set(d, factor)), bits + i);
  }
  for (; i < n; ++i) {
    StoreBf16(d1, hn::Mul(hn::LoadU(d1, values + i), hn::Set(d1, factor)), bits + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(ScaledMinMaxImpl);
HWY_EXPORT(FitAffinesImpl);
HWY_EXPORT(RoundPanelImpl);
HWY_EXPORT(NarrowToBf16Impl);

void ScaledMinMax(const float* w, const float* s, int64_t groups, int64_t group_size, float* lo,
                  float* hi) {
  HWY_DYNAMIC_DISPATCH(ScaledMinMaxImpl)(w, s, groups, group_size, lo, hi);
}

void FitAffines(const float* lo, const float* hi, float shrink, int64_t n,
                const WeightFormat& format, float* scales, float* zero_points) {
  HWY_DYNAMIC_DISPATCH(FitAffinesImpl)(lo, hi, shrink, n, format, scales, zero_points);
}

void RoundPanel(const RoundingPanel& panel, uint16_t* errors, double* squares, double* shifts) {
  HWY_DYNAMIC_DISPATCH(RoundPanelImpl)(panel, errors, squares, shifts);
}

void NarrowToBf16(const float* values, int64_t n, float factor, uint16_t* bits) {
  HWY_DYNAMIC_DISPATCH(NarrowToBf16Impl)(values, n, factor, bits);
}

}  // namespace salient
#endif  // HWY_ONCE
