// One decoder block made ready for many calibration rows.
#ifndef SALIENT_CORE_MODEL_PREPARED_BLOCK_H_
#define SALIENT_CORE_MODEL_PREPARED_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/projection.h"
#include "core/parallel/executor.h"

namespace salient {

// Borrows the weights, which must stay as they are. It is movable, immutable and thread-safe.
class PreparedBlock {
 public:
  // Lays every Linear out, in slices of whole units. INVALID_ARGUMENT for a Linear whose input is
  // rounded if products are not in f32; INTERNAL if the matrix library refuses; CANCELLED from the
  // executor.
  static absl::StatusOr<PreparedBlock> Create(const BlockPlan& plan, const BlockWeights& block,
                                              ComputeDType compute, Executor& executor);

  const BlockPlan& plan() const { return *plan_; }
  const PreparedLinear& linear(size_t index) const { return linears_[index]; }
  const StoredVector& vector(size_t index) const { return block_->vectors[index]; }

  // Returns the bytes beside the weights.
  static int64_t MemoryBytes(const BlockPlan& plan, ComputeDType compute);

 private:
  PreparedBlock() = default;

  const BlockPlan* plan_ = nullptr;
  const BlockWeights* block_ = nullptr;
  std::vector<PreparedLinear> linears_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_PREPARED_BLOCK_H_
