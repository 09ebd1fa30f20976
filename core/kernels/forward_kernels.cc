#include "core/kernels/forward_kernels.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/forward_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Full = hn::ScalableTag<float>;
using One = hn::CappedTag<float, 1>;

template <class D, class V>
HWY_INLINE void StoreAs(D d, V v, float* out) {
  hn::StoreU(v, d, out);
}

template <class D, class V>
HWY_INLINE void StoreAs(D /*d*/, V v, uint16_t* out) {
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> i32;
  const hn::Rebind<uint16_t, D> d16;
  // Adding just under half of the last place, and one more where that place is odd, rounds ties to
  // even; the carry runs into the exponent where it must. A NaN could become an infinity by that,
  // so its upper half is kept and made quiet.
  const auto bits = hn::BitCast(d32, v);
  const auto high = hn::ShiftRight<16>(bits);
  const auto half = hn::Add(hn::Set(d32, 0x7FFF), hn::And(high, hn::Set(d32, 1)));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, half));
  const auto quiet = hn::Or(high, hn::Set(d32, 0x40));
  const auto is_nan = hn::RebindMask(d32, hn::IsNaN(v));
  const auto result = hn::IfThenElse(is_nan, quiet, rounded);
  // The values are 0 .. 2^16 - 1, so demoting them does not saturate.
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(i32, result)), d16, out);
}

// Calls step(tag, i) for every vector of [0, n), and element by element at the end.
template <class Step>
HWY_INLINE void ForAll(int64_t n, const Step& step) {
  const Full full;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(full));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) step(full, i);
  for (; i < n; ++i) step(One(), i);
}

// exp(x) = 2^k exp(r), |r| <= ln 2 / 2, with the Taylor polynomial of degree 7, whose remainder is
// below 2^-27.
template <class D, class V>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> i32;
  const V bounded = hn::Min(hn::Max(x, hn::Set(d, -87.0f)), hn::Set(d, 88.0f));
  const V k = hn::Round(hn::Mul(bounded, hn::Set(d, 1.44269504f)));
  // ln 2 in two parts, the first of few bits: k times it is exact.
  V r = hn::NegMulAdd(k, hn::Set(d, 0x1.62e4p-1f), bounded);
  r = hn::NegMulAdd(k, hn::Set(d, 0x1.7f7d1cp-20f), r);
  V p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  // 2^k is made of its exponent bits alone; the bounds above keep k within -126 .. 127.
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(i32, k), hn::Set(i32, 127)));
  const V power = hn::Mul(p, hn::BitCast(d, exponent));
  const V known = hn::IfThenElse(hn::Lt(x, hn::Set(d, -87.0f)), hn::Zero(d), power);
  return hn::IfThenElse(hn::IsNaN(x), x, known);
}

void RoundToBf16Impl(const float* values, int64_t n, uint16_t* out) {
  const auto step = [=](auto d, int64_t i)
                        HWY_ATTR { StoreAs(d, hn::LoadU(d, values + i), out + i); };
  ForAll(n, step);
}

void WidenBf16Impl(const uint16_t* bits, int64_t n, float* out) {
  const auto step = [=](auto d, int64_t i) HWY_ATTR {
    const hn::RebindToUnsigned<decltype(d)> d32;
    const hn::Rebind<uint16_t, decltype(d)> d16;
    const auto wide = hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, bits + i)));
    hn::StoreU(hn::BitCast(d, wide), d, out + i);
  };
  ForAll(n, step);
}

void AddToImpl(const float* change, int64_t n, float* sum) {
  const auto step = [=](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, sum + i), hn::LoadU(d, change + i)), d, sum + i);
  };
  ForAll(n, step);
}

double SquaresImpl(const float* x, int64_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> d32;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  // Two sums, so that an addition does not wait for the one before it.
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = hn::PromoteTo(d, hn::LoadU(d32, x + i));
    const auto b = hn::PromoteTo(d, hn::LoadU(d32, x + i + lanes));
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

template <class Out>
HWY_INLINE void Normalize(const float* x, const float* weight, int64_t n, double epsilon,
                          Out* out) {
  // The squares are summed in f64: some channels of a residual stream are a thousand times others.
  const double mean = SquaresImpl(x, n) / static_cast<double>(n);
  const float inverse = static_cast<float>(1 / std::sqrt(mean + epsilon));
  const auto step = [=](auto d, int64_t i) HWY_ATTR {
    const auto scaled = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse));
    StoreAs(d, hn::Mul(scaled, hn::LoadU(d, weight + i)), out + i);
  };
  ForAll(n, step);
}

void NormalizeF32Impl(const float* x, const float* weight, int64_t n, double epsilon, float* out) {
  Normalize(x, weight, n, epsilon, out);
}

void NormalizeBf16Impl(const float* x, const float* weight, int64_t n, double epsilon,
                       uint16_t* out) {
  Normalize(x, weight, n, epsilon, out);
}

void RotateHeadsImpl(const float* cosines, const float* sines, int64_t half, int64_t heads,
                     float* values) {
  for (int64_t head = 0; head < heads; ++head) {
    float* first = values + head * 2 * half;
    float* second = first + half;
    const auto step = [=](auto d, int64_t i) HWY_ATTR {
      const auto a = hn::LoadU(d, first + i);
      const auto b = hn::LoadU(d, second + i);
      const auto c = hn::LoadU(d, cosines + i);
      const auto s = hn::LoadU(d, sines + i);
      // Both halves are read before either is written: the rotation is done in place.
      hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), d, first + i);
      hn::StoreU(hn::MulAdd(b, c, hn::Mul(a, s)), d, second + i);
    };
    ForAll(half, step);
  }
}

template <class Out>
HWY_INLINE void Silu(const float* gate, const float* up, int64_t n, Out* out) {
  const auto step = [=](auto d, int64_t i) HWY_ATTR {
    const auto g = hn::LoadU(d, gate + i);
    // silu(g) = g / (1 + exp(-g)); Exp bounds its argument, so the quotient never meets an
    // infinity.
    const auto below = hn::Add(hn::Set(d, 1.0f), Exp(d, hn::Neg(g)));
    StoreAs(d, hn::Mul(hn::Div(g, below), hn::LoadU(d, up + i)), out + i);
  };
  ForAll(n, step);
}

void SiluF32Impl(const float* gate, const float* up, int64_t n, float* out) {
  Silu(gate, up, n, out);
}

void SiluBf16Impl(const float* gate, const float* up, int64_t n, uint16_t* out) {
  Silu(gate, up, n, out);
}

void ExponentialsImpl(const float* x, int64_t n, float* out) {
  const auto step = [=](auto d, int64_t i)
                        HWY_ATTR { hn::StoreU(Exp(d, hn::LoadU(d, x + i)), d, out + i); };
  ForAll(n, step);
}

float SoftmaxPartImpl(float* scores, int64_t n, float factor, SoftmaxState& state) {
  const hn::CappedTag<float, kSoftmaxStep> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto most = hn::LoadU(d, scores);
  for (int64_t i = lanes; i < n; i += lanes) most = hn::Max(most, hn::LoadU(d, scores + i));
  // Scores are taken relative to the largest so far, whichever part it is in, so that no
  // exponential overflows; `kept` is what the parts before are worth by the new one.
  const float before = state.largest;
  const float part = hn::GetLane(hn::MaxOfLanes(d, most));
  state.largest = part > before ? part : before;
  const auto largest = hn::Set(d, state.largest);
  const auto times = hn::Set(d, factor);
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < n; i += lanes) {
    const auto e = Exp(d, hn::Mul(hn::Sub(hn::LoadU(d, scores + i), largest), times));
    hn::StoreU(e, d, scores + i);
    sum = hn::Add(sum, e);
  }
  const One one;
  const float kept = hn::GetLane(Exp(one, hn::Set(one, (before - state.largest) * factor)));
  state.sum = state.sum * kept + hn::GetLane(hn::SumOfLanes(d, sum));
  return kept;
}

template <class Out>
HWY_INLINE void ScaleTo(const float* values, float factor, int64_t n, Out* out) {
  const auto step = [=](auto d, int64_t i) HWY_ATTR {
    StoreAs(d, hn::Mul(hn::LoadU(d, values + i), hn::Set(d, factor)), out + i);
  };
  ForAll(n, step);
}

void ScaleF32Impl(const float* values, float factor, int64_t n, float* out) {
  ScaleTo(values, factor, n, out);
}

void ScaleBf16Impl(const float* values, float factor, int64_t n, uint16_t* out) {
  ScaleTo(values, factor, n, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(RoundToBf16Impl);
HWY_EXPORT(WidenBf16Impl);
HWY_EXPORT(AddToImpl);
HWY_EXPORT(NormalizeF32Impl);
HWY_EXPORT(NormalizeBf16Impl);
HWY_EXPORT(RotateHeadsImpl);
HWY_EXPORT(SiluF32Impl);
HWY_EXPORT(SiluBf16Impl);
HWY_EXPORT(ExponentialsImpl);
HWY_EXPORT(SoftmaxPartImpl);
HWY_EXPORT(ScaleF32Impl);
HWY_EXPORT(ScaleBf16Impl);

void RoundToBf16(const float* values, int64_t n, uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(RoundToBf16Impl)(values, n, out);
}

void WidenBf16(const uint16_t* bits, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(WidenBf16Impl)(bits, n, out);
}

void AddTo(const float* change, int64_t n, float* sum) {
  HWY_DYNAMIC_DISPATCH(AddToImpl)(change, n, sum);
}

void NormalizeRow(const float* x, const float* weight, int64_t n, double epsilon, float* out) {
  HWY_DYNAMIC_DISPATCH(NormalizeF32Impl)(x, weight, n, epsilon, out);
}

void NormalizeRow(const float* x, const float* weight, int64_t n, double epsilon, uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(NormalizeBf16Impl)(x, weight, n, epsilon, out);
}

void RotateHeads(const float* cosines, const float* sines, int64_t half, int64_t heads,
                 float* values) {
  HWY_DYNAMIC_DISPATCH(RotateHeadsImpl)(cosines, sines, half, heads, values);
}

void SiluProduct(const float* gate, const float* up, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SiluF32Impl)(gate, up, n, out);
}

void SiluProduct(const float* gate, const float* up, int64_t n, uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(SiluBf16Impl)(gate, up, n, out);
}

void Exponentials(const float* x, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(ExponentialsImpl)(x, n, out);
}

float SoftmaxPart(float* scores, int64_t n, float factor, SoftmaxState& state) {
  return HWY_DYNAMIC_DISPATCH(SoftmaxPartImpl)(scores, n, factor, state);
}

void Scale(const float* values, float factor, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleF32Impl)(values, factor, n, out);
}

void Scale(const float* values, float factor, int64_t n, uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(ScaleBf16Impl)(values, factor, n, out);
}

}  // namespace salient
#endif  // HWY_ONCE
