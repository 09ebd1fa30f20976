#include "core/linalg/panel_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/linalg/panel_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using PanelTag = hn::CappedTag<float, kPanelRows>;

void PanelMultiplyImpl(const float* h, int64_t ld, int64_t n, int64_t begin, int64_t end,
                       const float* x, float* y) {
  const PanelTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kRows = 8;  // accumulators held in registers
  for (int64_t t = 0; t < kPanelRows; t += lanes) {
    int64_t i = 0;
    for (; i + kRows <= n; i += kRows) {
      auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
      for (int64_t j = begin; j < end; ++j) {
        const float* row = h + j * ld + i;  // H is symmetric: row j serves as column j
        const auto v = hn::Load(d, x + j * kPanelRows + t);
        a0 = hn::MulAdd(hn::Set(d, row[0]), v, a0);
        a1 = hn::MulAdd(hn::Set(d, row[1]), v, a1);
        a2 = hn::MulAdd(hn::Set(d, row[2]), v, a2);
        a3 = hn::MulAdd(hn::Set(d, row[3]), v, a3);
        a4 = hn::MulAdd(hn::Set(d, row[4]), v, a4);
        a5 = hn::MulAdd(hn::Set(d, row[5]), v, a5);
        a6 = hn::MulAdd(hn::Set(d, row[6]), v, a6);
        a7 = hn::MulAdd(hn::Set(d, row[7]), v, a7);
      }
      float* out = y + i * kPanelRows + t;
      hn::Store(a0, d, out);
      hn::Store(a1, d, out + kPanelRows);
      hn::Store(a2, d, out + 2 * kPanelRows);
      hn::Store(a3, d, out + 3 * kPanelRows);
      hn::Store(a4, d, out + 4 * kPanelRows);
      hn::Store(a5, d, out + 5 * kPanelRows);
      hn::Store(a6, d, out + 6 * kPanelRows);
      hn::Store(a7, d, out + 7 * kPanelRows);
    }
    for (; i < n; ++i) {
      auto sum = hn::Zero(d);
      for (int64_t j = begin; j < end; ++j) {
        sum = hn::MulAdd(hn::Set(d, h[j * ld + i]), hn::Load(d, x + j * kPanelRows + t), sum);
      }
      hn::Store(sum, d, y + i * kPanelRows + t);
    }
  }
}

void PanelDotImpl(const float* a, const float* b, int64_t begin, int64_t end, float* out) {
  const PanelTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t t = 0; t < kPanelRows; t += lanes) {
    auto sum = hn::Zero(d);
    for (int64_t j = begin; j < end; ++j) {
      sum =
          hn::MulAdd(hn::Load(d, a + j * kPanelRows + t), hn::Load(d, b + j * kPanelRows + t), sum);
    }
    hn::Store(sum, d, out + t);
  }
}

void PanelGptqImpl(const float* upper, int64_t n, const int32_t* order, const PanelAffine& affine,
                   float* work, float* codes) {
  const PanelTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto max_code = hn::Set(d, affine.max_code);
  for (int64_t p = 0; p < n; ++p) {
    const int64_t column = order[p];
    const int64_t group = affine.group_of[column] * kPanelRows;
    const float* u = upper + p * n;
    for (int64_t t = 0; t < kPanelRows; t += lanes) {
      const auto w = hn::Load(d, work + p * kPanelRows + t);
      const auto scale = hn::Load(d, affine.scales + group + t);
      const auto zero = hn::Load(d, affine.zero_points + group + t);
      const auto code =
          hn::Min(hn::Max(hn::Add(hn::Round(hn::Div(w, scale)), zero), hn::Zero(d)), max_code);
      const auto offset = hn::Sub(code, zero);
      hn::Store(offset, d, codes + column * kPanelRows + t);
      const auto error = hn::Div(hn::NegMulAdd(offset, scale, w), hn::Set(d, u[p]));
      for (int64_t q = p + 1; q < n; ++q) {
        float* rest = work + q * kPanelRows + t;
        hn::Store(hn::NegMulAdd(hn::Set(d, u[q]), error, hn::Load(d, rest)), d, rest);
      }
    }
  }
}

void PanelDescentImpl(const float* h, int64_t ld, int64_t n, const PanelAffine& affine,
                      float* codes, float* gradient) {
  const PanelTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto max_code = hn::Set(d, affine.max_code);
  for (int64_t j = 0; j < n; ++j) {
    const float* row = h + j * ld;
    if (!(row[j] > 0)) continue;  // a channel that never fired: every code is as good
    const int64_t group = affine.group_of[j] * kPanelRows;
    for (int64_t t = 0; t < kPanelRows; t += lanes) {
      const auto scale = hn::Load(d, affine.scales + group + t);
      const auto zero = hn::Load(d, affine.zero_points + group + t);
      float* code = codes + j * kPanelRows + t;
      const auto old = hn::Load(d, code);
      const auto slope = hn::Load(d, gradient + j * kPanelRows + t);
      const auto step = hn::Div(slope, hn::Mul(hn::Set(d, row[j]), scale));
      const auto best =
          hn::Min(hn::Max(hn::Round(hn::Sub(old, step)), hn::Neg(zero)), hn::Sub(max_code, zero));
      if (hn::AllTrue(d, hn::Eq(best, old))) continue;
      hn::Store(best, d, code);
      const auto delta = hn::Mul(hn::Sub(best, old), scale);
      for (int64_t i = 0; i < n; ++i) {
        float* g = gradient + i * kPanelRows + t;
        hn::Store(hn::MulAdd(hn::Set(d, row[i]), delta, hn::Load(d, g)), d, g);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(PanelMultiplyImpl);
HWY_EXPORT(PanelDotImpl);
HWY_EXPORT(PanelGptqImpl);
HWY_EXPORT(PanelDescentImpl);

void PanelMultiply(const float* h, int64_t ld, int64_t n, int64_t begin, int64_t end,
                   const float* x, float* y) {
  HWY_DYNAMIC_DISPATCH(PanelMultiplyImpl)(h, ld, n, begin, end, x, y);
}

void PanelDot(const float* a, const float* b, int64_t begin, int64_t end, float* out) {
  HWY_DYNAMIC_DISPATCH(PanelDotImpl)(a, b, begin, end, out);
}

void PanelGptq(const float* upper, int64_t n, const int32_t* order, const PanelAffine& affine,
               float* work, float* codes) {
  HWY_DYNAMIC_DISPATCH(PanelGptqImpl)(upper, n, order, affine, work, codes);
}

void PanelDescent(const float* h, int64_t ld, int64_t n, const PanelAffine& affine, float* codes,
                  float* gradient) {
  HWY_DYNAMIC_DISPATCH(PanelDescentImpl)(h, ld, n, affine, codes, gradient);
}

}  // namespace salient
#endif  // HWY_ONCE
