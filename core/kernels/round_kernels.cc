#include "core/kernels/round_kernels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/round_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Full = hn::ScalableTag<float>;
using One = hn::CappedTag<float, 1>;

// round(w / scale) + zero_point, clamped to the codes.
template <class D, class V>
HWY_INLINE V NearestCode(D d, V w, const Affine& affine) {
  // It divides as the definition does; multiplying by 1 / scale moves codes that are near a tie.
  const V steps = hn::Round(hn::Div(w, hn::Set(d, affine.scale)));
  const V code = hn::Add(steps, hn::Set(d, affine.zero_point));
  return hn::Min(hn::Max(code, hn::Zero(d)), hn::Set(d, affine.max_code));
}

std::pair<float, float> MinMaxImpl(const float* w, int64_t n) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  float lo = w[0];
  float hi = w[0];
  int64_t i = 0;
  if (n >= lanes) {
    // Minima and maxima are exact in any order, so the lanes are joined at the end alone.
    auto lows = hn::LoadU(d, w);
    auto highs = lows;
    for (; i + lanes <= n; i += lanes) {
      const auto v = hn::LoadU(d, w + i);
      lows = hn::Min(lows, v);
      highs = hn::Max(highs, v);
    }
    lo = hn::GetLane(hn::MinOfLanes(d, lows));
    hi = hn::GetLane(hn::MaxOfLanes(d, highs));
  }
  for (; i < n; ++i) {
    lo = std::min(lo, w[i]);
    hi = std::max(hi, w[i]);
  }
  return {lo, hi};
}

template <class D>
HWY_INLINE void NearestErrorsStep(D d, const float* w, const Affine& affine, float* errors) {
  const auto v = hn::LoadU(d, w);
  const auto offset = hn::Sub(NearestCode(d, v, affine), hn::Set(d, affine.zero_point));
  // Not a fused multiply-add: w' is what a reader of the file computes, rounded.
  hn::StoreU(hn::Sub(hn::Mul(offset, hn::Set(d, affine.scale)), v), d, errors);
}

void NearestErrorsImpl(const float* w, int64_t n, const Affine& affine, float* errors) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) NearestErrorsStep(d, w + i, affine, errors + i);
  for (; i < n; ++i) NearestErrorsStep(One(), w + i, affine, errors + i);
}

template <class D>
HWY_INLINE void NearestCodesStep(D d, const float* w, const Affine& affine, uint8_t* codes) {
  const auto code = hn::ConvertTo(hn::RebindToSigned<D>(), NearestCode(d, hn::LoadU(d, w), affine));
  // A code is 0 .. 255, so that demoting from 32 bits to 8 never saturates.
  const hn::Rebind<uint8_t, D> d8;
  hn::StoreU(hn::DemoteTo(d8, code), d8, codes);
}

void NearestCodesImpl(const float* w, int64_t n, const Affine& affine, uint8_t* codes) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) NearestCodesStep(d, w + i, affine, codes + i);
  for (; i < n; ++i) NearestCodesStep(One(), w + i, affine, codes + i);
}

template <class D>
HWY_INLINE void RoundToStepsStep(D d, float step, float* values) {
  const auto v = hn::LoadU(d, values);
  const auto steps = hn::Set(d, step);
  const auto code = hn::Round(hn::Div(v, steps));
  const auto held = hn::Min(hn::Max(code, hn::Set(d, -128.0f)), hn::Set(d, kMostSteps));
  // A value that is not finite stays for the caller to find: a clamp would hide it.
  hn::StoreU(hn::IfThenElse(hn::IsFinite(v), hn::Mul(held, steps), v), d, values);
}

void RoundToStepsImpl(float step, int64_t n, float* values) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) RoundToStepsStep(d, step, values + i);
  for (; i < n; ++i) RoundToStepsStep(One(), step, values + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(MinMaxImpl);
HWY_EXPORT(NearestErrorsImpl);
HWY_EXPORT(NearestCodesImpl);
HWY_EXPORT(RoundToStepsImpl);

std::pair<float, float> MinMax(const float* w, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(MinMaxImpl)(w, n);
}

void NearestErrors(const float* w, int64_t n, const Affine& affine, float* errors) {
  HWY_DYNAMIC_DISPATCH(NearestErrorsImpl)(w, n, affine, errors);
}

void NearestCodes(const float* w, int64_t n, const Affine& affine, uint8_t* codes) {
  HWY_DYNAMIC_DISPATCH(NearestCodesImpl)(w, n, affine, codes);
}

void RoundToSteps(float step, int64_t n, float* values) {
  HWY_DYNAMIC_DISPATCH(RoundToStepsImpl)(step, n, values);
}

float StepOf(const float* values, int64_t n) {
  const auto [lo, hi] = MinMax(values, n);
  return std::max(std::max(-lo, hi) / kMostSteps, 0x1p-23f);
}

}  // namespace salient
#endif  // HWY_ONCE
