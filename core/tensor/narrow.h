// Rounds f32 to 16-bit floats: what the dtype cannot hold is an error, never an infinity in a file.
#ifndef SALIENT_CORE_TENSOR_NARROW_H_
#define SALIENT_CORE_TENSOR_NARROW_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/tensor/dtype.h"

namespace salient {

// Rounds `values` [rows, cols] to `dtype`, F16 or BF16, to nearest even, little-endian, into
// out[2 * rows * cols].
//
// Returns INVALID_ARGUMENT (IsNonFinite) naming `tensor`, the first offending row and column and
// the value, if one is NaN or rounds beyond the largest of the dtype in magnitude. `first_row` is
// added to the row named.
absl::Status Narrow(DType dtype, absl::string_view tensor, const float* values, int64_t rows,
                    int64_t cols, int64_t first_row, std::byte* out);

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_NARROW_H_
