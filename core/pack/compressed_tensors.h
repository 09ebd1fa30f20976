// The "pack-quantized" layout of compressed-tensors, which vLLM, SGLang, TGI, LMDeploy and
// transformers load, both ways.
#ifndef SALIENT_CORE_PACK_COMPRESSED_TENSORS_H_
#define SALIENT_CORE_PACK_COMPRESSED_TENSORS_H_

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

// O = out_features, I = in_features, G groups of a row (1 for whole rows), b bits, p = 32 / b codes
// a word, the first in the lowest bits, padding 0:
//   <prefix>.weight_packed     I32 [O, ceil(I / p)]
//   <prefix>.weight_scale      F16 [O, G]
//   <prefix>.weight_shape      I64 [2]  O, I
//   <prefix>.weight_zero_point I32 [ceil(O / p), G]  along the outputs; asymmetric formats alone
// Codes and zero points are the unsigned ones of AffineGroups: the signed ones plus 2^(b-1).
//
// Order of the result as above; one scale for a whole tensor becomes one for each row of it.
//
// Returns INVALID_ARGUMENT if bits are not 4 or 8, or scales are not F16.
absl::StatusOr<std::vector<NamedTensor>> PackCompressedTensors(const std::string& prefix,
                                                               const AffineGroups& groups);

// Does the first of two steps, for callers that share the work out: makes the tensors, weight_shape
// as it is to be and the others with all bits 0.
absl::StatusOr<std::vector<NamedTensor>> StartCompressedTensors(const std::string& prefix,
                                                                const AffineGroups& groups);
// Does the second: writes what they hold of outputs [first, last), multiples of 8 (or `last` the
// last), into words and scales of their own. Parts that do not overlap may be packed at the same
// time.
void PackCompressedOutputs(const AffineGroups& groups, int64_t first, int64_t last,
                           std::vector<NamedTensor>& tensors);

// Holds the tensors of one Linear as a file has them. Scales are F16, BF16 or F32.
struct CompressedTensors {
  NamedTensor weight_packed;
  NamedTensor weight_scale;
  NamedTensor weight_zero_point;  // It has no name if the file has none: then it is symmetric.
  NamedTensor weight_g_idx;       // It has no name if the file has none: then it is k / group_size.
};

// Holds dtypes and shapes, not data, against the Linear's shape; `group_size` as CheckAwqGemm. With
// weight_g_idx the last group may be a smaller one.
//
// Returns INVALID_ARGUMENT naming `source`, the tensor, its dtype or shape and what was expected.
absl::Status CheckCompressedTensors(absl::string_view source, const CompressedTensors& tensors,
                                    int bits, int64_t out_features, int64_t in_features,
                                    int64_t group_size);

// Decodes rows [first, first + count) of what passed the check, [count, in_features]; scales are
// not looked at.
//
// Returns INVALID_ARGUMENT naming `source` and the tensor if weight_g_idx names a group that there
// is not.
absl::StatusOr<Matrix> DecodeCompressedTensors(absl::string_view source,
                                               const CompressedTensors& tensors, int bits,
                                               int64_t in_features, int64_t first, int64_t count);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_COMPRESSED_TENSORS_H_
