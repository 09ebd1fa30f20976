#include "core/kernels/panel_kernels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/panel_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Half a panel at most, so that two vectors of it are always independent chains.
using PanelTag = hn::CappedTag<float, kPanelRows / 2>;
using Full = hn::CappedTag<float, 16>;

// Columns whose changes are applied to the rest of a row together.
constexpr int64_t kWindow = 64;

// Holds what is known of the column that error feedback fixes next.
struct GptqColumn {
  const float* scales;
  const float* zero_points;
  float max_code;
  float pivot;
  float* codes;
};

// Rounds `w`, stores its code and returns the error in units of the pivot.
template <class V>
HWY_INLINE V FixColumn(V w, const GptqColumn& column, int64_t t) {
  const PanelTag d;
  const auto scale = hn::Load(d, column.scales + t);
  const auto zero = hn::Load(d, column.zero_points + t);
  // The division is by the scale itself: a product with its inverse would move codes near a tie to
  // the other side than round-to-nearest does.
  const auto code = hn::Min(hn::Max(hn::Add(hn::Round(hn::Div(w, scale)), zero), hn::Zero(d)),
                            hn::Set(d, column.max_code));
  const auto offset = hn::Sub(code, zero);
  hn::Store(offset, d, column.codes + t);
  return hn::Div(hn::NegMulAdd(offset, scale, w), hn::Set(d, column.pivot));
}

void PanelGptqImpl(const float* upper, int64_t n, const int32_t* order, const PanelAffine& affine,
                   float* work, float* codes) {
  const PanelTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto column_at = [&](int64_t p) {
    const int64_t group = affine.group_of[order[p]] * kPanelRows;
    return GptqColumn{affine.scales + group, affine.zero_points + group, affine.max_code,
                      upper[p * n + p], codes + order[p] * kPanelRows};
  };
  // Each column first takes what all columns before the current four left to it, in registers and
  // in the order in which they were fixed, then what the four leave to each other.
  int64_t p = 0;
  for (; p + 4 <= n; p += 4) {
    const GptqColumn c0 = column_at(p), c1 = column_at(p + 1);
    const GptqColumn c2 = column_at(p + 2), c3 = column_at(p + 3);
    const float* u0 = upper + p * n + p;
    const float* u1 = u0 + n;
    const float* u2 = u1 + n;
    for (int64_t t = 0; t < kPanelRows; t += 2 * lanes) {
      float* w = work + p * kPanelRows + t;
      // Row r of `work` holds the error of column r by now. Four columns of two vectors use it per
      // load, in eight independent chains.
      auto a0 = hn::Load(d, w), b0 = hn::Load(d, w + lanes);
      auto a1 = hn::Load(d, w + kPanelRows), b1 = hn::Load(d, w + kPanelRows + lanes);
      auto a2 = hn::Load(d, w + 2 * kPanelRows), b2 = hn::Load(d, w + 2 * kPanelRows + lanes);
      auto a3 = hn::Load(d, w + 3 * kPanelRows), b3 = hn::Load(d, w + 3 * kPanelRows + lanes);
      for (int64_t r = 0; r < p; ++r) {
        const float* u = upper + r * n + p;
        const auto a = hn::Load(d, work + r * kPanelRows + t);
        const auto b = hn::Load(d, work + r * kPanelRows + t + lanes);
        const auto f0 = hn::Set(d, u[0]), f1 = hn::Set(d, u[1]);
        const auto f2 = hn::Set(d, u[2]), f3 = hn::Set(d, u[3]);
        a0 = hn::NegMulAdd(f0, a, a0);
        b0 = hn::NegMulAdd(f0, b, b0);
        a1 = hn::NegMulAdd(f1, a, a1);
        b1 = hn::NegMulAdd(f1, b, b1);
        a2 = hn::NegMulAdd(f2, a, a2);
        b2 = hn::NegMulAdd(f2, b, b2);
        a3 = hn::NegMulAdd(f3, a, a3);
        b3 = hn::NegMulAdd(f3, b, b3);
      }
      auto ea = FixColumn(a0, c0, t), eb = FixColumn(b0, c0, t + lanes);
      hn::Store(ea, d, w);
      hn::Store(eb, d, w + lanes);
      a1 = hn::NegMulAdd(hn::Set(d, u0[1]), ea, a1);
      b1 = hn::NegMulAdd(hn::Set(d, u0[1]), eb, b1);
      a2 = hn::NegMulAdd(hn::Set(d, u0[2]), ea, a2);
      b2 = hn::NegMulAdd(hn::Set(d, u0[2]), eb, b2);
      a3 = hn::NegMulAdd(hn::Set(d, u0[3]), ea, a3);
      b3 = hn::NegMulAdd(hn::Set(d, u0[3]), eb, b3);
      ea = FixColumn(a1, c1, t), eb = FixColumn(b1, c1, t + lanes);
      hn::Store(ea, d, w + kPanelRows);
      hn::Store(eb, d, w + kPanelRows + lanes);
      a2 = hn::NegMulAdd(hn::Set(d, u1[2]), ea, a2);
      b2 = hn::NegMulAdd(hn::Set(d, u1[2]), eb, b2);
      a3 = hn::NegMulAdd(hn::Set(d, u1[3]), ea, a3);
      b3 = hn::NegMulAdd(hn::Set(d, u1[3]), eb, b3);
      ea = FixColumn(a2, c2, t), eb = FixColumn(b2, c2, t + lanes);
      hn::Store(ea, d, w + 2 * kPanelRows);
      hn::Store(eb, d, w + 2 * kPanelRows + lanes);
      a3 = hn::NegMulAdd(hn::Set(d, u2[3]), ea, a3);
      b3 = hn::NegMulAdd(hn::Set(d, u2[3]), eb, b3);
      hn::Store(FixColumn(a3, c3, t), d, w + 3 * kPanelRows);
      hn::Store(FixColumn(b3, c3, t + lanes), d, w + 3 * kPanelRows + lanes);
    }
  }
  for (; p < n; ++p) {
    const GptqColumn column = column_at(p);
    for (int64_t t = 0; t < kPanelRows; t += lanes) {
      float* w = work + p * kPanelRows + t;
      auto a = hn::Load(d, w);
      for (int64_t r = 0; r < p; ++r) {
        a = hn::NegMulAdd(hn::Set(d, upper[r * n + p]), hn::Load(d, work + r * kPanelRows + t), a);
      }
      hn::Store(FixColumn(a, column, t), d, w);
    }
  }
}

// Columns and by how much each moved.
struct Changes {
  int64_t count = 0;
  int64_t columns[kWindow];
  float amounts[kWindow];
};

// out [n] += sum of amount * row of H, in the order of the changes.
HWY_INLINE void Apply(const float* h, int64_t ld, int64_t n, const Changes& changes, float* out) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    auto a0 = hn::LoadU(d, out + i), a1 = hn::LoadU(d, out + i + lanes);
    auto a2 = hn::LoadU(d, out + i + 2 * lanes), a3 = hn::LoadU(d, out + i + 3 * lanes);
    for (int64_t c = 0; c < changes.count; ++c) {
      const float* row = h + changes.columns[c] * ld + i;
      const auto amount = hn::Set(d, changes.amounts[c]);
      a0 = hn::MulAdd(hn::LoadU(d, row), amount, a0);
      a1 = hn::MulAdd(hn::LoadU(d, row + lanes), amount, a1);
      a2 = hn::MulAdd(hn::LoadU(d, row + 2 * lanes), amount, a2);
      a3 = hn::MulAdd(hn::LoadU(d, row + 3 * lanes), amount, a3);
    }
    hn::StoreU(a0, d, out + i);
    hn::StoreU(a1, d, out + i + lanes);
    hn::StoreU(a2, d, out + i + 2 * lanes);
    hn::StoreU(a3, d, out + i + 3 * lanes);
  }
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) {
    auto a = hn::LoadU(one, out + i);
    for (int64_t c = 0; c < changes.count; ++c) {
      a = hn::MulAdd(hn::LoadU(one, h + changes.columns[c] * ld + i),
                     hn::Set(one, changes.amounts[c]), a);
    }
    hn::StoreU(a, one, out + i);
  }
}

// Visits columns [begin, end), at most a vector's, of one group. `gradient` lacks the changes.
HWY_INLINE void DescendVector(const float* h, int64_t ld, const float* diagonal,
                              const RowSegment& map, float max_code, int64_t begin, int64_t end,
                              float* codes, const float* gradient, Changes& changes) {
  const Full d;
  const auto inside = hn::FirstN(d, static_cast<size_t>(end - begin));
  const auto curvature = hn::MaskedLoad(inside, d, diagonal + begin);
  // In a channel that never fired every code is as good.
  auto open = hn::And(inside, hn::Gt(curvature, hn::Zero(d)));
  auto slope = hn::MaskedLoad(inside, d, gradient + begin);
  for (int64_t c = 0; c < changes.count; ++c) {
    const auto row = hn::MaskedLoad(inside, d, h + changes.columns[c] * ld + begin);
    slope = hn::MulAdd(row, hn::Set(d, changes.amounts[c]), slope);
  }
  const auto code = hn::MaskedLoad(inside, d, codes + begin);
  const auto divisor = hn::Mul(curvature, hn::Set(d, map.scale));
  const auto lowest = hn::Set(d, -map.zero_point);
  const auto highest = hn::Set(d, max_code - map.zero_point);
  while (true) {
    const auto best =
        hn::Min(hn::Max(hn::Round(hn::Sub(code, hn::Div(slope, divisor))), lowest), highest);
    const intptr_t first = hn::FindFirstTrue(d, hn::And(open, hn::Ne(best, code)));
    if (first < 0) return;
    alignas(64) float values[16];
    hn::Store(best, d, values);
    const int64_t column = begin + first;
    const float amount = (values[first] - codes[column]) * map.scale;
    codes[column] = values[first];
    changes.columns[changes.count] = column;
    changes.amounts[changes.count++] = amount;
    const auto row = hn::MaskedLoad(inside, d, h + column * ld + begin);
    slope = hn::MulAdd(row, hn::Set(d, amount), slope);
    open = hn::AndNot(hn::FirstN(d, static_cast<size_t>(first + 1)), open);
  }
}

int64_t DescendRowImpl(const float* h, int64_t ld, int64_t n, const float* diagonal,
                       const RowSegment* segments, float max_code, float* codes, float* gradient) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(Full()));
  int64_t total = 0;
  for (int64_t window = 0; window < n; window += kWindow) {
    const int64_t window_end = std::min(n, window + kWindow);
    Changes changes;
    for (int64_t at = window; at < window_end;) {
      while (segments->end <= at) ++segments;
      const int64_t end = std::min({segments->end, window_end, at + lanes});
      DescendVector(h, ld, diagonal, *segments, max_code, at, end, codes, gradient, changes);
      at = end;
    }
    if (changes.count > 0) Apply(h, ld, n, changes, gradient);
    total += changes.count;
  }
  return total;
}

void AddChangedRowsImpl(const float* h, int64_t ld, int64_t n, int64_t begin, int64_t end,
                        const float* codes, float* before, float* out) {
  Changes changes;
  for (int64_t j = begin; j < end; ++j) {
    if (codes[j] != before[j]) {
      changes.columns[changes.count] = j;
      changes.amounts[changes.count++] = codes[j] - before[j];
      before[j] = codes[j];
    }
    if (changes.count < kWindow) continue;
    Apply(h, ld, n, changes, out);
    changes.count = 0;
  }
  if (changes.count > 0) Apply(h, ld, n, changes, out);
}

template <class D>
HWY_INLINE void AddScaledStep(D d, const float* x, float factor, float* y) {
  hn::StoreU(hn::MulAdd(hn::LoadU(d, x), hn::Set(d, factor), hn::LoadU(d, y)), d, y);
}

void AddScaledImpl(const float* x, float factor, int64_t n, float* y) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) AddScaledStep(d, x + i, factor, y + i);
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) AddScaledStep(one, x + i, factor, y + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(PanelGptqImpl);
HWY_EXPORT(DescendRowImpl);
HWY_EXPORT(AddChangedRowsImpl);
HWY_EXPORT(AddScaledImpl);

void PanelGptq(const float* upper, int64_t n, const int32_t* order, const PanelAffine& affine,
               float* work, float* codes) {
  HWY_DYNAMIC_DISPATCH(PanelGptqImpl)(upper, n, order, affine, work, codes);
}

int64_t DescendRow(const float* h, int64_t ld, int64_t n, const float* diagonal,
                   const RowSegment* segments, float max_code, float* codes, float* gradient) {
  return HWY_DYNAMIC_DISPATCH(DescendRowImpl)(h, ld, n, diagonal, segments, max_code, codes,
                                              gradient);
}

void AddChangedRows(const float* h, int64_t ld, int64_t n, int64_t begin, int64_t end,
                    const float* codes, float* before, float* out) {
  HWY_DYNAMIC_DISPATCH(AddChangedRowsImpl)(h, ld, n, begin, end, codes, before, out);
}

void AddScaled(const float* x, float factor, int64_t n, float* y) {
  HWY_DYNAMIC_DISPATCH(AddScaledImpl)(x, factor, n, y);
}

}  // namespace salient
#endif  // HWY_ONCE
