// Normalizes rows of the residual stream, as NormRule says.
#ifndef SALIENT_CORE_MODEL_BLOCKS_NORM_H_
#define SALIENT_CORE_MODEL_BLOCKS_NORM_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Borrows what a norm multiplies by and adds. It is immutable and thread-safe.
class Norm {
 public:
  // `weight` is the factor itself: of a NormRule::plus_one, 1 more than the tensor. `bias` is empty
  // or of the same size.
  Norm(const NormRule& rule, absl::Span<const float> weight, absl::Span<const float> bias)
      : rule_(rule), weight_(weight), bias_(bias) {}

  // Writes the norm of a row of as many elements as the weight, which `out` may be itself.
  void Row(const float* x, float* out) const;
  void Row(const float* x, uint16_t* out) const;

  // Returns the norm of each row, as `compute` says. Its errors are those of the executor.
  absl::StatusOr<Activations> Rows(const Matrix& x, ComputeDType compute, Executor& executor) const;
  // Returns the same in f32, at the front of a matrix of PaddedTokens(rows) rows, the rest 0.
  absl::StatusOr<Matrix> PaddedRows(const Matrix& x, Executor& executor) const;

 private:
  int64_t size() const { return static_cast<int64_t>(weight_.size()); }

  NormRule rule_;
  absl::Span<const float> weight_;
  absl::Span<const float> bias_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_NORM_H_
