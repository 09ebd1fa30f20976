// AutoAWQ's "gemm" layout, which vLLM, SGLang, TGI, LMDeploy and transformers load, both ways.
#ifndef SALIENT_CORE_PACK_AWQ_GEMM_H_
#define SALIENT_CORE_PACK_AWQ_GEMM_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/named_tensor.h"

namespace salient {

// Nibble i (bits 4i .. 4i+3) of a word holds output 8c + kAwqGemmOrder[i].
inline constexpr std::array<int, 8> kAwqGemmOrder = {0, 2, 4, 6, 1, 3, 5, 7};
inline constexpr int64_t kAwqGemmOutputsPerWord = 8;

// Packs along the outputs, O = out_features, I = in_features, G groups of a row:
//   <prefix>.qweight I32 [I, O/8], <prefix>.qzeros I32 [G, O/8], <prefix>.scales F16 [G, O].
// Zero points are stored as they are. Order of the result: qweight, qzeros, scales.
//
// Returns INVALID_ARGUMENT if bits is not 4, O is not a multiple of 8 or scales are not F16.
absl::StatusOr<std::vector<NamedTensor>> PackAwqGemm(const std::string& prefix,
                                                     const AffineGroups& groups);

// Holds the three tensors of one Linear as a file has them.
struct AwqGemmTensors {
  NamedTensor qweight;
  NamedTensor qzeros;
  NamedTensor scales;  // They are F16, BF16 or F32: tools write all three.
};

// Does the first of two steps, for callers that share the work out: makes the three tensors with
// all bits 0.
absl::StatusOr<std::vector<NamedTensor>> StartAwqGemm(const std::string& prefix,
                                                      const AffineGroups& groups);
// Does the second: writes what they hold of outputs [8 first, 8 last) into words and scales of
// their own. Parts that do not overlap may be packed at the same time.
void PackAwqGemmWords(const AffineGroups& groups, int64_t first, int64_t last,
                      std::vector<NamedTensor>& tensors);

// Holds dtypes and shapes, not data, against the Linear's shape; `group_size` is -1 for all of
// in_features, or 0 if nothing says it: then the scales do.
//
// Returns INVALID_ARGUMENT naming `source`, the tensor, its dtype or shape and what was expected.
absl::Status CheckAwqGemm(absl::string_view source, const AwqGemmTensors& tensors,
                          int64_t out_features, int64_t in_features, int64_t group_size);

// Takes what passed CheckAwqGemm apart again; group_size and scale_dtype are as found. Scales are
// not looked at: they may be anything that their dtype can hold.
AffineGroups UnpackAwqGemm(const AwqGemmTensors& tensors);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_AWQ_GEMM_H_
