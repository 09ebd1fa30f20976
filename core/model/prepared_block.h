// One decoder block made ready for many calibration rows.
#ifndef SALIENT_CORE_MODEL_PREPARED_BLOCK_H_
#define SALIENT_CORE_MODEL_PREPARED_BLOCK_H_

#include <array>
#include <cstdint>

#include "absl/status/statusor.h"
#include "core/config/model/model_config.h"
#include "core/model/block_weights.h"
#include "core/model/family.h"
#include "core/model/projection.h"
#include "core/parallel/executor.h"

namespace salient {

// Borrows the weights, which must stay as they are. It is movable, immutable and thread-safe.
class PreparedBlock {
 public:
  // Lays every Linear out, in slices of whole heads where the outputs are heads of head_dim
  // channels. Returns INVALID_ARGUMENT for a Linear whose input is rounded if products are not in
  // f32; INTERNAL if the matrix library refuses; CANCELLED from the executor.
  static absl::StatusOr<PreparedBlock> Create(const BlockWeights& block, ComputeDType compute,
                                              int64_t head_dim, Executor& executor);

  const PreparedLinear& linear(LinearRole role) const {
    return linears_[static_cast<size_t>(role)];
  }
  const StoredVector& norm(NormRole role) const { return block_->norm(role); }

  // Returns the bytes beside the weights.
  static int64_t MemoryBytes(const Family& family, const ModelConfig& config, ComputeDType compute);

 private:
  PreparedBlock() = default;

  const BlockWeights* block_ = nullptr;
  std::array<PreparedLinear, kLinearRoles> linears_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_PREPARED_BLOCK_H_
