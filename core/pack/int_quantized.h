// The "int-quantized" layout of compressed-tensors (W8A8), which vLLM, SGLang, TGI and transformers
// load, both ways.
#ifndef SALIENT_CORE_PACK_INT_QUANTIZED_H_
#define SALIENT_CORE_PACK_INT_QUANTIZED_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"

namespace salient {

// O = out_features, I = in_features:
//   <prefix>.weight       I8  [O, I]  signed codes: those of AffineGroups minus 128
//   <prefix>.weight_scale F32 [O, 1]; kWholeTensor: [1]
//   <prefix>.input_scale  F32 [1]     static activations alone: `input_scale` > 0
// Scales are written wide: engines keep them so, and both dtypes load. Order of the result as
// above.
//
// Returns INVALID_ARGUMENT unless the format is symmetric, 8 bit, of whole rows or the whole
// tensor.
absl::StatusOr<std::vector<NamedTensor>> PackIntQuantized(const std::string& prefix,
                                                          const AffineGroups& groups,
                                                          float input_scale);

// Does the first of two steps, for callers that share the work out: makes the tensors with a weight
// of 0.
absl::StatusOr<std::vector<NamedTensor>> StartIntQuantized(const std::string& prefix,
                                                           const AffineGroups& groups,
                                                           float input_scale);
// Does the second: packs rows [first, last) of the weight. Parts that do not overlap may be packed
// at the same time.
void PackIntQuantizedRows(const AffineGroups& groups, int64_t first, int64_t last,
                          std::vector<NamedTensor>& tensors);

// Holds the tensors of one Linear as a file has them. Scales are F16, BF16 or F32.
struct IntQuantizedTensors {
  NamedTensor weight;
  NamedTensor weight_scale;
};

// Holds dtypes and shapes, not data, against the Linear's shape. weight_scale is one for each row,
// [O, 1] or [O], or one of the whole tensor, [1].
//
// Returns INVALID_ARGUMENT naming `source`, the tensor, its dtype or shape and what was expected.
absl::Status CheckIntQuantized(absl::string_view source, const IntQuantizedTensors& tensors,
                               int64_t out_features, int64_t in_features);

// Decodes rows [first, first + count) of what passed the check, [count, in_features].
Matrix DecodeIntQuantized(const IntQuantizedTensors& tensors, int64_t first, int64_t count);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_INT_QUANTIZED_H_
