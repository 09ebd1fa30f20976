// One decoder block of the block loop: from its weights and statistics to finished tensors.
#ifndef SALIENT_CORE_QUANTIZE_BLOCK_H_
#define SALIENT_CORE_QUANTIZE_BLOCK_H_

#include <array>

#include "absl/status/status.h"
#include "core/calibrate_block.h"
#include "core/checkpoint/model_config.h"
#include "core/linalg/executor.h"
#include "core/model/block_weights.h"
#include "core/model/family.h"
#include "core/quantizable_groups.h"
#include "core/quantize_model.h"

namespace salient {

// By GroupRole.
using GroupFits = std::array<GroupFit, kGroupRoles>;

// Quantizes the groups that fit, folds their scales, keeps the others in F16, and hands all of it
// to `sink`, BlockDone last. `statistics` holds every group's.
//
// Errors: INVALID_ARGUMENT for a norm, bias or kept weight that F16 cannot hold (names tensor,
// position, value); those of QuantizeGroup and of the sink; CANCELLED from the executor.
absl::Status QuantizeBlock(const Family& family, const ModelConfig& config,
                           const QuantizeModelParams& params, const GroupFits& fits,
                           BlockWeights block, GroupStatistics statistics, QuantizedModelSink& sink,
                           Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZE_BLOCK_H_
