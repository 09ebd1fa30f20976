// The curvature that GPTQ works on: the whole of H, scaled.
#ifndef SALIENT_CORE_METHOD_FULL_CURVATURE_H_
#define SALIENT_CORE_METHOD_FULL_CURVATURE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/matrix.h"

namespace salient {

// A_ij = H_ij / (n s_i s_j), H uncentred. Borrows `model`. Immutable.
class FullCurvature {
 public:
  // INVALID_ARGUMENT saying what to do if the statistics do not keep the whole of H.
  static absl::StatusOr<FullCurvature> Create(const LossModel& model,
                                              absl::Span<const float> scales);

  int64_t columns() const { return static_cast<int64_t>(diagonal_.size()); }
  const std::vector<float>& diagonal() const { return diagonal_; }
  double mean_diagonal() const { return mean_; }
  // The columns as they stand, or by falling diagonal; equals stay in order.
  std::vector<int32_t> Order(bool falling) const;

  // A [n, n] with rows and columns in `order` and `damping` times the mean diagonal added to the
  // diagonal. A channel that never fired has the mean diagonal itself: any positive one does,
  // because nothing is fed back to or from it. CANCELLED from the executor.
  absl::StatusOr<Matrix> Damped(absl::Span<const int32_t> order, float damping,
                                Executor& executor) const;

 private:
  explicit FullCurvature(const LossModel& model) : model_(&model) {}

  const LossModel* model_;
  std::vector<float> inverse_;   // It is 1 / s.
  std::vector<float> diagonal_;  // It is that of A.
  double mean_ = 1;              // It is that of the diagonal, and above 0.
};

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_FULL_CURVATURE_H_
