// Does one decoder block of the block loop: from its weights and statistics to finished tensors.
#ifndef SALIENT_CORE_QUANTIZE_QUANTIZE_BLOCK_H_
#define SALIENT_CORE_QUANTIZE_QUANTIZE_BLOCK_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/block_weights.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/quantize/calibrate_block.h"
#include "core/quantize/quantize_model.h"
#include "core/result/plain_dtypes.h"
#include "core/result/raised_group.h"
#include "core/result/shared_results.h"
#include "core/tensor/matrix.h"

namespace salient {

// For each of `results` in turn: quantizes the groups that fit, folds their scales, keeps the
// others in their `dtypes`, and hands all of it to `sink`, for each output that shares it;
// BlockDone last. `statistics` holds every group's; each is dropped when the last result has used
// it. Returns the groups that params.max_relative_error raised.
//
// A Linear that took a fold and is then raised to 16 bits is rounded to them with the fold in it.
// Every fold is proved on `row`, one that enters the block.
//
// Errors: INVALID_ARGUMENT for a norm, bias or kept weight that its dtype cannot hold (names
// tensor, position, value); INTERNAL for a fold that changes the block (see FoldProof); those of
// QuantizeGroup and of the sink; CANCELLED from the executor.
absl::StatusOr<std::vector<RaisedGroup>> QuantizeBlock(
    const Model& model, const QuantizeModelParams& params, const PlainDTypes& dtypes,
    absl::Span<const SharedResult> results, BlockWeights block, GroupStatistics statistics,
    const Matrix& row, QuantizedModelSink& sink, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZE_QUANTIZE_BLOCK_H_
