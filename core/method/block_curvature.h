// The curvature that block rounding works on: one shrunk, scaled diagonal block of H.
#ifndef SALIENT_CORE_METHOD_BLOCK_CURVATURE_H_
#define SALIENT_CORE_METHOD_BLOCK_CURVATURE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/method.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/matrix.h"

namespace salient {

// n columns from `first`. Shared by all rows of a weight.
struct BlockCurvature {
  int64_t first = 0;
  Matrix h;                     // It is [n, n]: H_ij / (s_i s_j), with shrinkage off the diagonal.
  std::vector<float> diagonal;  // It is that of h.
  std::vector<int32_t> order;   // Columns stand by falling diagonal, counted from `first`.
  Matrix upper;                 // It is U [n, n], U^T U = (h permuted by `order`, damped)^-1.

  int64_t columns() const { return h.rows(); }
};

// The blocks of `params.width` columns that make up all columns. A block that cannot be factored
// with `params.damping` is damped more (RaisedDamping): a few tokens alike do that. INTERNAL if one
// could not be factored with any damping.
absl::StatusOr<std::vector<BlockCurvature>> ShrinkBlocks(const LossModel& model,
                                                         absl::Span<const float> scales,
                                                         const RoundBlockParams& params,
                                                         Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_BLOCK_CURVATURE_H_
