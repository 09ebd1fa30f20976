// AutoAWQ's "gemm" layout, which vLLM, SGLang, TGI, LMDeploy and transformers load.
#ifndef SALIENT_CORE_PACK_AWQ_GEMM_H_
#define SALIENT_CORE_PACK_AWQ_GEMM_H_

#include <array>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
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
// INVALID_ARGUMENT if bits is not 4, O is not a multiple of 8 or scales are not F16.
absl::StatusOr<std::vector<NamedTensor>> PackAwqGemm(const std::string& prefix,
                                                     const AffineGroups& groups);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_AWQ_GEMM_H_
