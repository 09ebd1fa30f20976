#include "core/tensor/weight_view.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"

namespace salient {

void WeightView::ReadRows(int64_t row, int64_t count, float* out) const {
  WidenToF32(dtype, data + row * in_features * SizeOf(dtype), count * in_features, out);
}

absl::Status CheckFinite(absl::string_view tensor, const float* values, int64_t rows, int64_t cols,
                         int64_t first_row) {
  const std::optional<int64_t> i = FirstNonFinite(values, rows * cols);
  if (!i.has_value()) return absl::OkStatus();
  return NonFiniteError(absl::StrCat(tensor, ": element [", first_row + *i / cols, ", ", *i % cols,
                                     "] is ", values[*i], "; expected a finite value"));
}

}  // namespace salient
