#include "core/quantize/lost_scales.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/kernels/round_kernels.h"
#include "core/kernels/search_kernels.h"
#include "core/method/ranges.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient {

bool LosesScales(const StoredLinear& before, const StoredLinear& after,
                 const WeightFormat& format) {
  if (format.scale_dtype != DType::kF16) return false;
  constexpr int64_t kFew = 64;  // One group has at most so many.
  // Below it the rounding of the scale alone moves the last code by a quarter.
  const float least = static_cast<float>(format.MaxCode()) * 2 * kLeastF16;
  const int64_t size = format.GroupSize(before.in_features);
  std::vector<float> old_row(static_cast<size_t>(before.in_features));
  std::vector<float> new_row(old_row.size());
  int64_t lost = 0;
  for (int64_t i = 0; i < before.out_features; ++i) {
    before.View().ReadRows(i, 1, old_row.data());
    after.View().ReadRows(i, 1, new_row.data());
    for (int64_t at = 0; at < before.in_features; at += size) {
      const auto [old_low, old_high] = MinMax(old_row.data() + at, size);
      const auto [low, high] = MinMax(new_row.data() + at, size);
      const Affine affine = FitAffine(
          low, high, 1.0f, WeightFormat{format.bits, size, format.symmetric, DType::kF32});
      if (affine.scale < least && high - low < old_high - old_low) ++lost;
      for (const auto& [now, then] : {std::pair(low, old_low), std::pair(high, old_high)}) {
        if (!std::isfinite(RoundToF16(now)) && std::isfinite(RoundToF16(then))) return true;
      }
    }
  }
  return lost > before.out_features * (before.in_features / size) / kFew;
}

}  // namespace salient
