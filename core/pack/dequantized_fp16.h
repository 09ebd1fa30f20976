// Codes decoded again: plain F16 weights, which everything that reads the source's format loads.
// For widths that no packed layout here holds, and for measuring without a reader of packed
// tensors.
#ifndef SALIENT_CORE_PACK_DEQUANTIZED_FP16_H_
#define SALIENT_CORE_PACK_DEQUANTIZED_FP16_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/named_tensor.h"

namespace salient {

// <prefix>.weight F16 [out_features, in_features]: scale * (code - zero_point), computed in f32 and
// rounded once, to nearest even. 2 to 8 bits, any group size and scale dtype.
//
// Returns INVALID_ARGUMENT naming tensor, row, column and value for what F16 cannot hold.
absl::StatusOr<std::vector<NamedTensor>> DequantizeToFp16(const std::string& prefix,
                                                          const AffineGroups& groups);

// Decodes rows [first, last) alone, into those of `tensor`, which StartFp16Weight made. Parts that
// do not overlap may be done at the same time. Its errors are the same.
absl::Status DequantizeRows(const AffineGroups& groups, int64_t first, int64_t last,
                            NamedTensor& tensor);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_DEQUANTIZED_FP16_H_
