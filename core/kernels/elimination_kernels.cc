#include "core/kernels/elimination_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/elimination_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace salient {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Keeps two vectors of each of four rows in registers: a row above is loaded once for eight
// multiply-adds, which do not wait for each other, and the result is stored once.
void EliminateRowsImpl(double* rows, int64_t ld, int64_t first, int64_t count, int64_t skip,
                       int64_t begin, int64_t end) {
  const hn::CappedTag<double, 8> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  double* row = rows + first * ld;
  int64_t j = begin;
  for (; count == kEliminatedRows && j + 2 * lanes <= end; j += 2 * lanes) {
    auto a0 = hn::LoadU(d, row + j), b0 = hn::LoadU(d, row + j + lanes);
    auto a1 = hn::LoadU(d, row + ld + j), b1 = hn::LoadU(d, row + ld + j + lanes);
    auto a2 = hn::LoadU(d, row + 2 * ld + j), b2 = hn::LoadU(d, row + 2 * ld + j + lanes);
    auto a3 = hn::LoadU(d, row + 3 * ld + j), b3 = hn::LoadU(d, row + 3 * ld + j + lanes);
    // Row k has the factors of the four rows in its own columns first .. first + 3, because what is
    // eliminated is symmetric.
    for (int64_t k = skip; k < first; ++k) {
      const double* above = rows + k * ld;
      const auto a = hn::LoadU(d, above + j), b = hn::LoadU(d, above + j + lanes);
      const auto f0 = hn::Set(d, above[first]), f1 = hn::Set(d, above[first + 1]);
      const auto f2 = hn::Set(d, above[first + 2]), f3 = hn::Set(d, above[first + 3]);
      a0 = hn::NegMulAdd(f0, a, a0);
      b0 = hn::NegMulAdd(f0, b, b0);
      a1 = hn::NegMulAdd(f1, a, a1);
      b1 = hn::NegMulAdd(f1, b, b1);
      a2 = hn::NegMulAdd(f2, a, a2);
      b2 = hn::NegMulAdd(f2, b, b2);
      a3 = hn::NegMulAdd(f3, a, a3);
      b3 = hn::NegMulAdd(f3, b, b3);
    }
    hn::StoreU(a0, d, row + j);
    hn::StoreU(b0, d, row + j + lanes);
    hn::StoreU(a1, d, row + ld + j);
    hn::StoreU(b1, d, row + ld + j + lanes);
    hn::StoreU(a2, d, row + 2 * ld + j);
    hn::StoreU(b2, d, row + 2 * ld + j + lanes);
    hn::StoreU(a3, d, row + 3 * ld + j);
    hn::StoreU(b3, d, row + 3 * ld + j + lanes);
  }
  // The columns that fill no two vectors, and panels of fewer rows, take the plain loop.
  for (int64_t i = first; i < first + count; ++i) {
    for (int64_t k = skip; k < first; ++k) {
      const double factor = rows[k * ld + i];
      for (int64_t c = j; c < end; ++c) rows[i * ld + c] -= factor * rows[k * ld + c];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace salient
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace salient {

HWY_EXPORT(EliminateRowsImpl);

void EliminateRows(double* rows, int64_t ld, int64_t first, int64_t count, int64_t skip,
                   int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(EliminateRowsImpl)(rows, ld, first, count, skip, begin, end);
}

}  // namespace salient
#endif  // HWY_ONCE
