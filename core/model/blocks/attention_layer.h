// Computes what a block's attention adds to the residual stream.
#ifndef SALIENT_CORE_MODEL_BLOCKS_ATTENTION_LAYER_H_
#define SALIENT_CORE_MODEL_BLOCKS_ATTENTION_LAYER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/blocks/rotary.h"
#include "core/model/group_observer.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Adds attention of `normed`, the input of its first group, to `sum` [tokens, out_features]. `rope`
// turns queries and keys; it is nullptr if nothing does. Its errors are those of the observer and
// of the executor.
absl::Status AddAttention(const PreparedBlock& block, const AttentionPlan& attention,
                          const RotaryTable* rope, Activations normed, GroupObserver observer,
                          Matrix& sum, Executor& executor);

// Returns the bytes a token that it holds at most, where an element of activations has `element`.
int64_t TokenBytes(const BlockPlan& plan, const AttentionPlan& attention, int64_t element);
// Returns the bytes that a worker's task holds at most beside products.
int64_t TaskBytes(const AttentionPlan& attention);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_ATTENTION_LAYER_H_
