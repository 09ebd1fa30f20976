// Scaling what a group of Linears reads, without changing what the block computes:
//
//   W x = (W s) (x / s)
//
// s [in_features] of the group multiplies the columns of its Linears, and what comes before gives x
// divided by s: a norm's weight and bias, or rows of a Linear and their biases.
#ifndef SALIENT_CORE_MODEL_FOLD_H_
#define SALIENT_CORE_MODEL_FOLD_H_

#include "absl/types/span.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"

namespace salient {

// Divides what precedes `group` of the plan by `scales`, each > 0. A Linear's weight becomes F32:
// rounding it here would be an error that nothing measures. Where the fold has shared heads,
// `scales` must be equal in all query heads that read one kv head. A fold into nothing does
// nothing.
void DivideInput(const BlockPlan& plan, const GroupPlan& group, absl::Span<const float> scales,
                 BlockWeights& block);

// Returns the Linear with its columns multiplied by `scales`, in F32: the other half of a fold,
// which rounding does on the way.
StoredLinear MultiplyColumns(const StoredLinear& linear, absl::Span<const float> scales);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_FOLD_H_
