#include "core/tensor/weight_view.h"

#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"

namespace salient {

void WeightView::ReadRows(int64_t row, int64_t count, float* out) const {
  WidenToF32(dtype, data + row * in_features * SizeOf(dtype), count * in_features, out);
}

absl::Status CheckFinite(absl::string_view tensor, const float* values, int64_t rows, int64_t cols,
                         int64_t first_row) {
  // An all-ones exponent is what NaN and infinity share; OR-ing the test keeps the loop free
  // of branches, the position is looked for only when it is needed.
  uint32_t bad = 0;
  for (int64_t i = 0; i < rows * cols; ++i) {
    bad |= (std::bit_cast<uint32_t>(values[i]) & 0x7F800000u) == 0x7F800000u ? 1u : 0u;
  }
  if (bad == 0) return absl::OkStatus();
  for (int64_t i = 0; i < rows * cols; ++i) {
    if (std::isfinite(values[i])) continue;
    return NonFiniteError(absl::StrCat(tensor, ": element [", first_row + i / cols, ", ", i % cols,
                                       "] is ", values[i], "; expected a finite value"));
  }
  return absl::OkStatus();
}

}  // namespace salient
