// Computes what a block's short convolution adds to the residual stream (LFM2).
#ifndef SALIENT_CORE_MODEL_BLOCKS_SHORT_CONVOLUTION_H_
#define SALIENT_CORE_MODEL_BLOCKS_SHORT_CONVOLUTION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/group_observer.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Adds the convolution of `normed`, the input of its first group, to `sum` [tokens, out_features].
// Filters work in f32. Its errors are those of the observer and of the executor.
absl::Status AddShortConvolution(const PreparedBlock& block, const ShortConvolutionPlan& plan,
                                 Activations normed, GroupObserver observer, Matrix& sum,
                                 Executor& executor);

// Returns the bytes a token that it holds at most, where an element of activations has `element`.
int64_t TokenBytes(const BlockPlan& plan, const ShortConvolutionPlan& convolution, int64_t element);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_SHORT_CONVOLUTION_H_
