// Says what one decoder block costs to quantize, computed from shapes alone.
#ifndef SALIENT_CORE_COST_BLOCK_COST_H_
#define SALIENT_CORE_COST_BLOCK_COST_H_

#include <cstdint>

#include "core/config/model/model_config.h"
#include "core/cost/work_count.h"
#include "core/method/method.h"
#include "core/model/block_plan.h"
#include "core/model/model.h"
#include "core/quantize/quantize_model.h"
#include "core/result/quantizable_groups.h"
#include "core/result/shared_results.h"
#include "core/statistics/statistics.h"

namespace salient {

// Returns the bytes of a weight in the model. What the config does not say is 16 bits wide.
int64_t StoredBytes(const ModelConfig& config);

// Stands for blocks that cost the same.
struct BlockKind {
  const BlockPlan* block = nullptr;  // It is the first of them.
  int64_t count = 0;
};

// Returns the kinds of the model's blocks, by the shapes and the mixers that they have. It borrows
// the model.
std::vector<BlockKind> KindsOf(const Model& model);

// Returns what is kept of the inputs of a group.
StatisticsParams StatisticsOf(const BlockPlan& block, const GroupPlan& group, const Method& method);

// Holds the cost of quantizing one block for one SharedResult.
struct BlockCost {
  int64_t output_bytes = 0;       // It counts all its outputs, if no group is raised.
  int64_t most_output_bytes = 0;  // It counts all its outputs, if all groups are raised.
  int64_t most_bytes = 0;         // So much is held at once beside the block as it was read.
};

// Adds the work to `work`. A weight of the model has `stored_bytes`. `last`: statistics are dropped
// as they are used. Under a limit of error every group counts as if it was above it: quantized
// twice where 8 bits are a choice, then F16.
BlockCost CostOfBlock(const BlockPlan& block, int64_t stored_bytes,
                      const QuantizeModelParams& params, const SharedResult& result,
                      const BlockFits& fits, bool last, int concurrency, WorkCount& work);

}  // namespace salient

#endif  // SALIENT_CORE_COST_BLOCK_COST_H_
