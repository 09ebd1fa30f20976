// Computes what a block's multi-layer perceptron adds to the residual stream.
#ifndef SALIENT_CORE_MODEL_BLOCKS_MLP_H_
#define SALIENT_CORE_MODEL_BLOCKS_MLP_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/group_observer.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Adds what `mlp` makes of `normed`, the input of its first group, to `sum` [tokens, out_features].
// Its errors are those of the observer and of the executor.
absl::Status AddMlp(const PreparedBlock& block, const MlpPlan& mlp, Activations normed,
                    GroupObserver observer, Matrix& sum, Executor& executor);

// Returns the bytes a token that it holds at most, where an element of activations has `element`.
int64_t TokenBytes(const BlockPlan& plan, const MlpPlan& mlp, int64_t element);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_MLP_H_
