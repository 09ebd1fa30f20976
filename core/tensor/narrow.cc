#include "core/tensor/narrow.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"

namespace salient {
namespace {

// Rounds; `infinity` is the exponent of all ones, which infinities and NaNs have.
template <typename Round>
absl::Status NarrowBy(Round round, uint16_t infinity, DType dtype, absl::string_view tensor,
                      const float* values, int64_t rows, int64_t cols, int64_t first_row,
                      std::byte* out) {
  for (int64_t i = 0; i < rows * cols; ++i) {
    const uint16_t bits = round(values[i]);
    if ((bits & infinity) == infinity) {
      return NonFiniteError(
          absl::StrCat(tensor, ": element [", first_row + i / cols, ", ", i % cols, "] is ",
                       values[i], "; expected a value that ", Name(dtype), " can hold, at most ",
                       dtype == DType::kF16 ? "65504" : "3.3895e+38", " in magnitude"));
    }
    std::memcpy(out + 2 * i, &bits, sizeof(bits));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Narrow(DType dtype, absl::string_view tensor, const float* values, int64_t rows,
                    int64_t cols, int64_t first_row, std::byte* out) {
  return dtype == DType::kF16
             ? NarrowBy(F32ToF16, 0x7C00, dtype, tensor, values, rows, cols, first_row, out)
             : NarrowBy(F32ToBF16, 0x7F80, dtype, tensor, values, rows, cols, first_row, out);
}

}  // namespace salient
