// The GPTQ layouts (v1 and v2), which vLLM, SGLang, TGI, LMDeploy, GPTQModel and transformers load,
// both ways.
#ifndef SALIENT_CORE_PACK_GPTQ_H_
#define SALIENT_CORE_PACK_GPTQ_H_

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

// Says how codes lie in words. 4 and 8 bit: 32 / bits codes a word, the first in the lowest bits. 3
// bit: a stream of bits, 32 codes in 3 words, the first in the lowest.
struct GptqLayout {
  int bits = 4;     // It is 3, 4 or 8.
  bool v2 = false;  // Zero points stand as they are; v1 has them minus one, in as many bits.
};

// O = out_features, I = in_features, G groups of a row, b bits:
//   <prefix>.qweight I32 [I b/32, O]  codes of one output along the inputs
//   <prefix>.qzeros  I32 [G, O b/32]  zero points of one group along the outputs
//   <prefix>.scales  F16 [G, O]
//   <prefix>.g_idx   I32 [I]          the group of each input: k / group_size
// Order of the result: qweight, qzeros, scales, g_idx.
//
// Returns INVALID_ARGUMENT if bits are not 3, 4 or 8, or the format's; I b or O b are no multiple
// of 32; scales are not F16; or v1 has a zero point of 0, which readers of it do not agree on.
absl::StatusOr<std::vector<NamedTensor>> PackGptq(const std::string& prefix,
                                                  const AffineGroups& groups,
                                                  const GptqLayout& layout);

// Does the first of two steps, for callers that share the work out: makes the four tensors, g_idx
// as it is to be and the others with all bits 0.
absl::StatusOr<std::vector<NamedTensor>> StartGptq(const std::string& prefix,
                                                   const AffineGroups& groups,
                                                   const GptqLayout& layout);
// Does the second: writes what they hold of outputs [first, last), multiples of 32 (or `last` the
// last), into words and scales of their own. Parts that do not overlap may be packed at the same
// time.
void PackGptqOutputs(const AffineGroups& groups, const GptqLayout& layout, int64_t first,
                     int64_t last, std::vector<NamedTensor>& tensors);

// Holds the tensors of one Linear as a file has them. Scales are F16, BF16 or F32.
struct GptqTensors {
  NamedTensor qweight;
  NamedTensor qzeros;
  NamedTensor scales;
  NamedTensor g_idx;  // It has no name if the file has none: then it is k / group_size.
};

// Holds dtypes and shapes, not data, against the Linear's shape; `group_size` as CheckAwqGemm. With
// g_idx the last group may be a smaller one.
//
// Returns INVALID_ARGUMENT naming `source`, the tensor, its dtype or shape and what was expected.
absl::Status CheckGptq(absl::string_view source, const GptqTensors& tensors,
                       const GptqLayout& layout, int64_t out_features, int64_t in_features,
                       int64_t group_size);

// Decodes rows [first, first + count) of what passed CheckGptq, [count, in_features]. A v1 zero
// point is the stored one plus 1, 2^b included, as most engines read it. Scales are not looked at.
//
// Returns INVALID_ARGUMENT naming `source` and the tensor if g_idx names a group that there is not.
absl::StatusOr<Matrix> DecodeGptq(absl::string_view source, const GptqTensors& tensors,
                                  const GptqLayout& layout, int64_t first, int64_t count);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_GPTQ_H_
