#include "core/tensor/narrow_f16.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"

namespace salient {

absl::Status NarrowToF16(absl::string_view tensor, const float* values, int64_t rows, int64_t cols,
                         int64_t first_row, std::byte* out) {
  for (int64_t i = 0; i < rows * cols; ++i) {
    const uint16_t bits = F32ToF16(values[i]);
    if ((bits & 0x7C00) == 0x7C00) {
      return NonFiniteError(absl::StrCat(
          tensor, ": element [", first_row + i / cols, ", ", i % cols, "] is ", values[i],
          "; expected a value that F16 can hold, at most 65504 in magnitude"));
    }
    std::memcpy(out + 2 * i, &bits, sizeof(bits));
  }
  return absl::OkStatus();
}

}  // namespace salient
