// Weights with their scale folded in and nothing else done to them: plain F16, which everything
// that reads the source's format loads, and quantizers of other formats (GGUF ...) take as a
// source.
#ifndef SALIENT_CORE_PACK_SCALED_FP16_H_
#define SALIENT_CORE_PACK_SCALED_FP16_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Makes <prefix>.weight F16 [out_features, in_features], all 0.
NamedTensor StartFp16Weight(const std::string& prefix, int64_t out_features, int64_t in_features);

// Writes rows [first, last) of W s, s [in_features], computed in f32 and rounded once, to nearest
// even, into those of `tensor`. Parts that do not overlap may be done at the same time.
//
// Returns INVALID_ARGUMENT (IsNonFinite) naming tensor, row, column and value for what F16 cannot
// hold.
absl::Status ScaleToFp16Rows(const WeightView& weight, absl::Span<const float> scales,
                             int64_t first, int64_t last, NamedTensor& tensor);

}  // namespace salient

#endif  // SALIENT_CORE_PACK_SCALED_FP16_H_
