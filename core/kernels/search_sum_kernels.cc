#include "core/kernels/search_sum_kernels.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/search_sum_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Full = hn::ScalableTag<float>;
using One = hn::CappedTag<float, 1>;

template <class D>
HWY_INLINE hn::Vec<D> LoadBf16(D d, const uint16_t* bits) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  // A bfloat16 is the upper half of the f32 of the same value.
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, bits))));
}

void AddRowDotsImpl(const float* a, int64_t lda, const uint16_t* b, int64_t ldb, int64_t rows,
                    int64_t columns, double* sums) {
  const Full d;
  const One d1;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t t = 0; t < rows; ++t, a += lda, b += ldb) {
    auto sum0 = hn::Zero(d);
    auto sum1 = hn::Zero(d);
    int64_t j = 0;
    for (; j + 2 * lanes <= columns; j += 2 * lanes) {
      sum0 = hn::MulAdd(hn::LoadU(d, a + j), LoadBf16(d, b + j), sum0);
      sum1 = hn::MulAdd(hn::LoadU(d, a + j + lanes), LoadBf16(d, b + j + lanes), sum1);
    }
    // A row's sum over the columns of a piece is f32, like the products; sums[t], which adds up the
    // pieces, is f64.
    float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
    for (; j < columns; ++j) sum += a[j] * hn::GetLane(LoadBf16(d1, b + j));
    sums[t] += sum;
  }
}

// `count` vectors side by side, so that a row is read in runs of whole cache lines.
template <int kCount, class D>
HWY_INLINE void AddColumnSquaresStep(D d, const float* a, int64_t rows, int64_t columns,
                                     float* total, double* sums) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> squares0 = hn::Zero(d), squares1 = squares0, squares2 = squares0, squares3 = squares0;
  // Squares stay in registers over all rows; only the running total goes through memory.
  const auto add = [&](int64_t at, hn::Vec<D>& squares) HWY_ATTR {
    const auto v = hn::LoadU(d, a + at);
    squares = hn::MulAdd(v, v, squares);
    if (total != nullptr) hn::StoreU(hn::Add(hn::LoadU(d, total + at), v), d, total + at);
  };
  for (int64_t t = 0; t < rows; ++t) {
    const int64_t at = t * columns;
    add(at, squares0);
    if constexpr (kCount == 4) {
      add(at + lanes, squares1);
      add(at + 2 * lanes, squares2);
      add(at + 3 * lanes, squares3);
    }
  }
  HWY_ALIGN float spilled[4 * HWY_LANES(float)];
  hn::StoreU(squares0, d, spilled);
  if constexpr (kCount == 4) {
    hn::StoreU(squares1, d, spilled + lanes);
    hn::StoreU(squares2, d, spilled + 2 * lanes);
    hn::StoreU(squares3, d, spilled + 3 * lanes);
  }
  for (int64_t k = 0; k < kCount * lanes; ++k) sums[k] += spilled[k];
}

void AddColumnSquaresImpl(const float* a, int64_t rows, int64_t columns, float* total,
                          double* sums) {
  const Full d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto total_at = [&](int64_t k) { return total == nullptr ? nullptr : total + k; };
  int64_t k = 0;
  for (; k + 4 * lanes <= columns; k += 4 * lanes) {
    AddColumnSquaresStep<4>(d, a + k, rows, columns, total_at(k), sums + k);
  }
  for (; k < columns; ++k) {
    AddColumnSquaresStep<1>(One(), a + k, rows, columns, total_at(k), sums + k);
  }
}

void AddRelativeMagnitudesImpl(const float* w, int64_t groups, int64_t group_size, double epsilon,
                               double* sums) {
  const Full d;
  const hn::ScalableTag<double> d64;
  const hn::Rebind<float, decltype(d64)> d32;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t lanes64 = static_cast<int64_t>(hn::Lanes(d64));
  for (int64_t g = 0; g < groups; ++g, w += group_size, sums += group_size) {
    // The largest of the group has to be known before the first share, so w is read twice; the
    // second time it is in the cache.
    float largest = 0;
    int64_t i = 0;
    auto most = hn::Zero(d);
    for (; i + lanes <= group_size; i += lanes) most = hn::Max(most, hn::Abs(hn::LoadU(d, w + i)));
    largest = hn::GetLane(hn::MaxOfLanes(d, most));
    for (; i < group_size; ++i) largest = std::max(largest, std::abs(w[i]));
    const double whole = static_cast<double>(largest) + epsilon;
    if (!(whole > 0)) continue;
    const double inverse = 1 / whole;
    int64_t j = 0;
    for (; j + lanes64 <= group_size; j += lanes64) {
      const auto v = hn::PromoteTo(d64, hn::Abs(hn::LoadU(d32, w + j)));
      hn::StoreU(hn::MulAdd(v, hn::Set(d64, inverse), hn::LoadU(d64, sums + j)), d64, sums + j);
    }
    for (; j < group_size; ++j) sums[j] += std::abs(static_cast<double>(w[j])) * inverse;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(AddRowDotsImpl);
HWY_EXPORT(AddColumnSquaresImpl);
HWY_EXPORT(AddRelativeMagnitudesImpl);

void AddRowDots(const float* a, int64_t lda, const uint16_t* b, int64_t ldb, int64_t rows,
                int64_t columns, double* sums) {
  HWY_DYNAMIC_DISPATCH(AddRowDotsImpl)(a, lda, b, ldb, rows, columns, sums);
}

void AddColumnSquares(const float* a, int64_t rows, int64_t columns, float* total, double* sums) {
  HWY_DYNAMIC_DISPATCH(AddColumnSquaresImpl)(a, rows, columns, total, sums);
}

void AddRelativeMagnitudes(const float* w, int64_t groups, int64_t group_size, double epsilon,
                           double* sums) {
  HWY_DYNAMIC_DISPATCH(AddRelativeMagnitudesImpl)(w, groups, group_size, epsilon, sums);
}

}  // namespace salient
#endif  // HWY_ONCE
