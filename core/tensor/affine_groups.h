// Holds what every rounding returns: integer codes with one affine map per group.
#ifndef SALIENT_CORE_TENSOR_AFFINE_GROUPS_H_
#define SALIENT_CORE_TENSOR_AFFINE_GROUPS_H_

#include <cstdint>
#include <vector>

#include "core/tensor/dtype.h"

namespace salient {

// Values of group_size that are no number of in_features.
inline constexpr int64_t kWholeRow = -1;     // One (scale, zero_point) serves all of an output.
inline constexpr int64_t kWholeTensor = -2;  // The same one serves all outputs, too.

// Says how weights are stored: results belong to one such format, because the scale is rounded to
// its stored dtype before codes are computed.
struct WeightFormat {
  int bits = 4;  // It is 2 to 8.
  // in_features per (scale, zero_point); divides in_features; or one of the two above
  int64_t group_size = 128;
  bool symmetric = false;           // If true, zero_point is fixed at 2^(bits-1).
  DType scale_dtype = DType::kF16;  // It is F16, BF16 or F32.

  int MaxCode() const { return (1 << bits) - 1; }
  int64_t GroupSize(int64_t in_features) const { return group_size < 0 ? in_features : group_size; }
};

// O = out_features, I = in_features, G = I / group_size. All are row-major. Under kWholeTensor G is
// 1 and all rows have the same scale and zero point.
//   w'[o][i] = scales[o][g] * (codes[o][i] - zero_points[o][g]),  g = i / group_size
struct AffineGroups {
  int64_t out_features = 0;
  int64_t in_features = 0;
  WeightFormat format;
  std::vector<uint8_t> codes;  // They are [O, I], one code per byte, 0 .. 2^bits - 1.
  // They are [O, G], > 0, exactly representable in format.scale_dtype.
  std::vector<float> scales;
  std::vector<uint8_t> zero_points;  // They are [O, G], in code units; that code decodes to 0.0.

  int64_t Groups() const { return in_features / format.GroupSize(in_features); }

  // Decodes w' of one row into out [I].
  void DecodeRow(int64_t row, float* out) const {
    const int64_t size = format.GroupSize(in_features);
    for (int64_t g = 0; g < Groups(); ++g) {
      const int64_t at = row * Groups() + g;
      const uint8_t* code = codes.data() + row * in_features + g * size;
      for (int64_t k = 0; k < size; ++k) {
        out[g * size + k] = scales[at] * static_cast<float>(code[k] - zero_points[at]);
      }
    }
  }
};

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_AFFINE_GROUPS_H_
