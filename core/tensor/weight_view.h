// The weight of one Linear in the dtype it was stored in. Rows are widened to f32 a tile at
// a time, so that no f32 copy of a whole tensor exists.
#ifndef SALIENT_CORE_TENSOR_WEIGHT_VIEW_H_
#define SALIENT_CORE_TENSOR_WEIGHT_VIEW_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/tensor/dtype.h"

namespace salient {

// Borrows a weight [out_features, in_features], row-major, little-endian.
struct WeightView {
  DType dtype = DType::kF32;  // It is F32, F16 or BF16.
  const std::byte* data = nullptr;
  int64_t out_features = 0;
  int64_t in_features = 0;

  // Widens rows [row, row + count) into out [count, in_features].
  void ReadRows(int64_t row, int64_t count, float* out) const;
};

// Returns INVALID_ARGUMENT (IsNonFinite) naming `tensor`, the first offending row and column and
// the value, if an element of `values` [rows, cols] is NaN or infinite. `first_row` is added to the
// row named.
absl::Status CheckFinite(absl::string_view tensor, const float* values, int64_t rows, int64_t cols,
                         int64_t first_row);

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_WEIGHT_VIEW_H_
