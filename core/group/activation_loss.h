// Losses that include what an engine does to the activations: on the token sample, because no sum
// over tokens knows how each token is rounded.
#ifndef SALIENT_CORE_GROUP_ACTIVATION_LOSS_H_
#define SALIENT_CORE_GROUP_ACTIVATION_LOSS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/group/linear.h"
#include "core/pack/stored_format.h"
#include "core/parallel/executor.h"
#include "core/parallel/tiles.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/matrix.h"
#include "core/tensor/stored_format.h"

namespace salient {

// For the m sampled tokens x of a group's input (statistics.h) the squared output error
//
//   e = |Q(x / s) W'^T - x W^T|^2,   W' the decoded rounding of W s,
//
// where Q rounds to 8 bits, symmetric, as `activations` says: with one step a token (StepOf), the
// largest |x_j / s_j| / 127, or with InputScale for all. Outputs are f32. A Loss holds the m errors
// e as estimates of the mean over all tokens: its Value is their mean and its standard errors come
// from their spread, so that two losses of the same tokens are compared token by token.
//
// It is immutable after Create, safe to share between threads. Borrows weights and statistics.
class ActivationLoss {
 public:
  // `activations` is not kNone. Returns INVALID_ARGUMENT naming `group` if the statistics hold no
  // sample; (IsNonFinite) naming tensor and where for a weight that is not finite; CANCELLED.
  static absl::StatusOr<ActivationLoss> Create(const std::string& group,
                                               absl::Span<const Linear> linears,
                                               const Statistics& statistics,
                                               ActivationFormat activations, Executor& executor);

  // Returns what one step of static activations is worth on inputs divided by `scales`: the largest
  // of |x_j / s_j| over all calibration tokens and channels, over 127; 1 if that is 0. 0 for
  // dynamic ones.
  float InputScale(absl::Span<const float> scales) const;

  // Returns the loss of having no weights at all, which relative errors are shares of, by Linear.
  std::vector<Loss> Energies() const;
  // Returns the loss of rounding W s to nearest on min-max ranges, by Linear. Returns CANCELLED
  // from `executor`.
  absl::StatusOr<std::vector<Loss>> Nearest(absl::Span<const float> scales,
                                            const WeightFormat& format, Executor& executor) const;
  // Returns the loss of `groups`, the roundings of each W s, by Linear. Returns CANCELLED from
  // `executor`.
  absl::StatusOr<std::vector<Loss>> Of(absl::Span<const AffineGroups> groups,
                                       absl::Span<const float> scales, Executor& executor) const;

  // Bytes held at most, scratch included.
  static int64_t MemoryBytes(int64_t total_out_features, const StatisticsParams& params,
                             int concurrency);

 private:
  // Writes row `row` of Linear `index` of W' to out [in_features].
  using DecodeRow = absl::FunctionRef<void(size_t index, int64_t row, float* out)>;

  ActivationLoss(absl::Span<const Linear> linears, const Statistics& statistics,
                 ActivationFormat activations);

  // Returns Q(x / s) [m, in_features].
  absl::StatusOr<Matrix> RoundedInputs(absl::Span<const float> scales, Executor& executor) const;
  absl::StatusOr<std::vector<Loss>> Measure(absl::Span<const float> scales, DecodeRow decode,
                                            Executor& executor) const;
  // Sums a tile's errors a token into losses by Linear.
  std::vector<Loss> ByLinear(const std::vector<std::vector<double>>& of_tiles) const;

  std::vector<Linear> linears_;
  const Statistics* statistics_;
  ActivationFormat activations_;
  int64_t tokens_;  // It is m.
  StackedTiles tiles_;
  std::vector<Matrix> outputs_;  // They are x W^T [m, count] of each tile.
};

}  // namespace salient

#endif  // SALIENT_CORE_GROUP_ACTIVATION_LOSS_H_
