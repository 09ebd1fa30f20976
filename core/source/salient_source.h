// Reads a plain checkpoint as if most of its weights had been rounded: what keeping some input
// channels in F16 makes of a model.
#ifndef SALIENT_CORE_SOURCE_SALIENT_SOURCE_H_
#define SALIENT_CORE_SOURCE_SALIENT_SOURCE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/checkpoint/tensor_source.h"
#include "core/tensor/affine_groups.h"

namespace salient {

// By the weight's name, "model.layers.0.mlp.down_proj.weight": the input channels that stay F16.
using KeptChannels = std::map<std::string, std::vector<int64_t>, std::less<>>;

// Shows every weight named in `kept` as salient_fp16 rounds it, F32 [out_features, in_features],
// and everything else as it is. `source` must outlive the result. It is thread-safe; reading holds
// a tile of rows.
//
// Errors: INVALID_ARGUMENT naming the tensor if one is not a matrix of F32, F16 or BF16; those of
// `source`. From ReadRange also INVALID_ARGUMENT for a NaN or infinity (names tensor, row, column)
// and those of RoundSalientFp16.
absl::StatusOr<std::unique_ptr<TensorSource>> SalientFp16Source(const TensorSource& source,
                                                                const WeightFormat& format,
                                                                KeptChannels kept);

}  // namespace salient

#endif  // SALIENT_CORE_SOURCE_SALIENT_SOURCE_H_
