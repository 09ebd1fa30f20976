// One decoder block made ready for many calibration rows.
#ifndef SALIENT_CORE_MODEL_PREPARED_BLOCK_H_
#define SALIENT_CORE_MODEL_PREPARED_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/activations.h"
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
  ComputeDType compute() const { return compute_; }
  // Returns the rows of a Linear that BlockPlan::projections names.
  const PreparedLinear& projection(size_t index) const { return projections_[index]; }
  // Returns all rows of a Linear of BlockPlan::linears that is no part of a larger one.
  const PreparedLinear& linear(size_t index) const { return projections_[whole_[index]]; }
  const InputRounding& input(size_t linear) const { return block_->linears[linear].input; }
  const StoredVector& vector(size_t index) const { return block_->vectors[index]; }
  // Returns what one of BlockPlan::norms multiplies by.
  absl::Span<const float> norm_weight(size_t index) const { return norm_weights_[index]; }
  // Returns what it adds; it is empty if it adds nothing.
  absl::Span<const float> norm_bias(size_t index) const;

  // Returns the bytes beside the weights.
  static int64_t MemoryBytes(const BlockPlan& plan, ComputeDType compute);

 private:
  PreparedBlock() = default;

  const BlockPlan* plan_ = nullptr;
  const BlockWeights* block_ = nullptr;
  ComputeDType compute_ = ComputeDType::kF32;
  std::vector<PreparedLinear> projections_;
  std::vector<size_t> whole_;  // It stands by Linear and points into projections_.
  std::vector<std::vector<float>> norm_weights_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_PREPARED_BLOCK_H_
