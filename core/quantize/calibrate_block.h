// One decoder block's share of calibration: every row through it, what its groups of Linears read
// into statistics, the states that leave it into the next file.
#ifndef SALIENT_CORE_QUANTIZE_CALIBRATE_BLOCK_H_
#define SALIENT_CORE_QUANTIZE_CALIBRATE_BLOCK_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/forward.h"
#include "core/model/hidden_states.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"

namespace salient {

// These are as BlockPlan::groups.
using GroupStatistics = std::vector<std::optional<Statistics>>;

// Runs every row of `entering` through `block` and writes it to `leaving`, uncommitted. Gives the
// statistics of all groups, whose sketches and samples are drawn from `seed`; with the whole Gram
// of each if `whole_gram`. The bits are the same for any executor.
//
// The rows of a narrow model are run side by side, each on one thread, because there the tasks of
// a row are too small to share; those of a wide one follow each other, spread over the executor.
//
// `tokens_done` is told of each row when it is through, from any thread, one at a time; its error
// ends the run and is returned.
//
// Errors: those of the files and of BlockForward::Run; INVALID_ARGUMENT for activations that are
// not finite (names group, row, position, column); CANCELLED from the executor.
absl::StatusOr<GroupStatistics> CalibrateBlock(
    const BlockForward& forward, const BlockWeights& block, const HiddenStatesFile& entering,
    HiddenStatesFile& leaving, uint64_t seed, bool whole_gram,
    absl::FunctionRef<absl::Status(int64_t tokens)> tokens_done, Executor& executor);

// Returns the bytes that it holds at most beside the block's weights, for rows of up to `tokens`
// tokens; what it returns among them.
int64_t CalibrateBlockMemoryBytes(const Model& model, const BlockPlan& block, ComputeDType compute,
                                  int64_t tokens, bool whole_gram, int concurrency);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZE_CALIBRATE_BLOCK_H_
