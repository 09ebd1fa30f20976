// Says which widths and group sizes weights can be stored with, whatever the layout, as checks and
// as what messages expect.
#ifndef SALIENT_CORE_TENSOR_FORMAT_BOUNDS_H_
#define SALIENT_CORE_TENSOR_FORMAT_BOUNDS_H_

#include <cstdint>

#include "core/tensor/affine_groups.h"

namespace salient {

inline constexpr int kLeastBits = 2;
inline constexpr int kMostBits = 8;
inline constexpr char kBitsExpected[] = "2 to 8";
static_assert(kBitsExpected[0] == '0' + kLeastBits && kBitsExpected[5] == '0' + kMostBits);

constexpr bool IsCodeWidth(int64_t bits) { return bits >= kLeastBits && bits <= kMostBits; }

inline constexpr char kGroupSizeExpected[] =
    "a divisor of in_features, -1 for all of them, or -2 for the whole tensor";

// Returns whether some in_features have such a divisor, or it is a name for all of them.
constexpr bool IsGroupSize(int64_t group_size) {
  return group_size > 0 || group_size == kWholeRow || group_size == kWholeTensor;
}

}  // namespace salient

#endif  // SALIENT_CORE_TENSOR_FORMAT_BOUNDS_H_
