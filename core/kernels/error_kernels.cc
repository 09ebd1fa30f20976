#include "core/kernels/error_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/error_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A vector is a cache line of f32 at most.
using Full = hn::CappedTag<float, 16>;

template <class D>
HWY_INLINE void OffsetErrorsStep(D d, const float* w, const float* codes, float scale,
                                 float* errors) {
  // Not a fused multiply-add: w' is what a reader of the file computes, rounded.
  const auto decoded = hn::Mul(hn::LoadU(d, codes), hn::Set(d, scale));
  hn::StoreU(hn::Sub(decoded, hn::LoadU(d, w)), d, errors);
}

void OffsetErrorsImpl(const float* w, const float* codes, float scale, int64_t n, float* errors) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) OffsetErrorsStep(d, w + i, codes + i, scale, errors + i);
  // The rest goes through the same code with vectors of one lane, so that its bits do not depend on
  // where a row is cut.
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) OffsetErrorsStep(one, w + i, codes + i, scale, errors + i);
}

template <class D>
HWY_INLINE void DecodedErrorsStep(D d, const uint8_t* codes, float scale, float zero_point,
                                  const float* inverse, float* errors) {
  // Each step is rounded by itself, as by a reader who decodes a weight before he uses it.
  const hn::RebindToSigned<D> d32;
  const auto wide = hn::PromoteTo(d32, hn::LoadU(hn::Rebind<uint8_t, D>(), codes));
  const auto offset = hn::Sub(hn::ConvertTo(d, wide), hn::Set(d, zero_point));
  const auto decoded = hn::Mul(offset, hn::Set(d, scale));
  const auto unscaled = hn::Mul(decoded, hn::LoadU(d, inverse));
  hn::StoreU(hn::Sub(unscaled, hn::LoadU(d, errors)), d, errors);
}

void DecodedErrorsImpl(const uint8_t* codes, int64_t n, float scale, float zero_point,
                       const float* inverse, float* errors) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    DecodedErrorsStep(d, codes + i, scale, zero_point, inverse + i, errors + i);
  }
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) {
    DecodedErrorsStep(one, codes + i, scale, zero_point, inverse + i, errors + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(OffsetErrorsImpl);
HWY_EXPORT(DecodedErrorsImpl);

void OffsetErrors(const float* w, const float* codes, float scale, int64_t n, float* errors) {
  HWY_DYNAMIC_DISPATCH(OffsetErrorsImpl)(w, codes, scale, n, errors);
}

void DecodedErrors(const uint8_t* codes, int64_t n, float scale, uint8_t zero_point,
                   const float* inverse, float* errors) {
  HWY_DYNAMIC_DISPATCH(DecodedErrorsImpl)
  (codes, n, scale, static_cast<float>(zero_point), inverse, errors);
}

}  // namespace salient
#endif  // HWY_ONCE
