#include "core/kernels/sum_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/sum_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Full = hn::ScalableTag<float>;
using One = hn::CappedTag<float, 1>;

template <class D>
HWY_INLINE void WidenF16Step(D d, const uint16_t* bits, float* out) {
  const hn::Rebind<hwy::float16_t, D> d16;
  hn::StoreU(hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(bits))), d,
             out);
}

void WidenF16Impl(const uint16_t* bits, int64_t n, float* out) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) WidenF16Step(d, bits + i, out + i);
  // The rest takes vectors of one lane, for which Highway has the same conversion.
  for (; i < n; ++i) WidenF16Step(One(), bits + i, out + i);
}

void MultiplyImpl(const float* a, const float* b, int64_t n, float* out) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, out + i);
  }
  for (; i < n; ++i) out[i] = a[i] * b[i];
}

double DotImpl(const float* a, const float* b, int64_t n) {
  // A product of two f32 is exact in f64, so only the order of the sum is left to rounding.
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> d32;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d);
  auto sum1 = hn::Zero(d);
  const auto load = [&](const float* p) HWY_ATTR { return hn::PromoteTo(d, hn::LoadU(d32, p)); };
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    sum0 = hn::MulAdd(load(a + i), load(b + i), sum0);
    sum1 = hn::MulAdd(load(a + i + lanes), load(b + i + lanes), sum1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

const char* KernelTargetImpl() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(WidenF16Impl);
HWY_EXPORT(MultiplyImpl);
HWY_EXPORT(DotImpl);
HWY_EXPORT(KernelTargetImpl);

void WidenF16(const uint16_t* bits, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(WidenF16Impl)(bits, n, out);
}

void Multiply(const float* a, const float* b, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(MultiplyImpl)(a, b, n, out);
}

double Dot(const float* a, const float* b, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(DotImpl)(a, b, n);
}

void LimitKernels(InstructionSet set) {
  // Better targets have lower bits, in old releases and new ones. Newer releases know several with
  // AVX-512; the plain one is what they all have.
  const int64_t best = set == InstructionSet::kAvx2 ? HWY_AVX2 : HWY_AVX3;
  if (set != InstructionSet::kNative) hwy::DisableTargets(best - 1);
}

std::string KernelTarget() { return HWY_DYNAMIC_DISPATCH(KernelTargetImpl)(); }

}  // namespace salient
#endif  // HWY_ONCE
