// Rounds the Linears of a group under one scale, and tells what plain round-to-nearest makes of
// them: the losses that a choice between the two rests on.
#ifndef SALIENT_CORE_GROUP_ROUND_LINEARS_H_
#define SALIENT_CORE_GROUP_ROUND_LINEARS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/group/activation_loss.h"
#include "core/group/linear.h"
#include "core/method/method.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/affine_groups.h"

namespace salient {

// It has no scale, range or rounding of any cleverness: every method has to beat it.
inline constexpr Method kPlainRounding{
    ScaleChoice::kNone, RangeChoice::kMinMax, RoundingChoice::kNearest, {}, false};

// A Linear's loss under plain round-to-nearest, and that of having no weight at all, which relative
// errors are shares of and which bfloat16 is good enough for.
struct Baseline {
  Loss nearest;
  Loss energy;  // It is right to about 1e-3 of itself.
};

// Returns the baselines of all `linears` in one pass over their weights, for inputs divided by
// `scales`: on `sample`, with the activations rounded, unless it is null; else by `model`.
//
// Returns INVALID_ARGUMENT (IsNonFinite) naming the tensor and where for a weight that is not
// finite or a scale that its stored dtype cannot hold; CANCELLED from the executor.
absl::StatusOr<std::vector<Baseline>> Baselines(absl::Span<const Linear> linears,
                                                absl::Span<const float> scales,
                                                const LossModel& model, const WeightFormat& format,
                                                Executor& executor,
                                                const ActivationLoss* sample = nullptr);

struct RoundedLinear {
  AffineGroups groups;
  // The loss of what a reader of the packed tensors computes on x / s: D = W' / s - W, or on
  // `sample`.
  Loss loss;
  double clipped_share = 0;  // It is the share of groups whose range was narrowed.
  std::string note;          // It is a sentence that a user should know.
};

// Applies range and rounding of `method` to all `linears` under `scales`; `sample` is as in
// Baselines. Its errors are the same, and INVALID_ARGUMENT naming the field for parameters out of
// range. It is deterministic for any executor.
absl::StatusOr<std::vector<RoundedLinear>> RoundLinears(
    absl::Span<const Linear> linears, absl::Span<const float> scales, const LossModel& model,
    const Method& method, const WeightFormat& format, Executor& executor,
    const ActivationLoss* sample = nullptr);

// Returns `status` with `name` before its message, unless it begins with it.
absl::Status Named(const std::string& name, const absl::Status& status);

}  // namespace salient

#endif  // SALIENT_CORE_GROUP_ROUND_LINEARS_H_
