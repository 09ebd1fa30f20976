// The scale of a group: what the method proposes, judged by the loss that the result will have.
#ifndef SALIENT_CORE_GROUP_CHOOSE_SCALE_H_
#define SALIENT_CORE_GROUP_CHOOSE_SCALE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/group/activation_loss.h"
#include "core/group/linear.h"
#include "core/method/method.h"
#include "core/method/scale_candidates.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"

namespace salient {

struct ChosenScale {
  std::vector<float> scales;  // s is [in_features], above 0.
  ScaleCandidate candidate;
};

// Chooses the scale of `linears`, which read the input that `statistics` are of. Candidates are
// compared by round-to-nearest: on `sample`, with the activations rounded, unless it is null, else
// by `model`. For ScaleChoice::kNone they are ones. Returns INVALID_ARGUMENT naming the field for
// parameters out of range; CANCELLED from `executor`.
absl::StatusOr<ChosenScale> ChooseScale(absl::Span<const Linear> linears,
                                        const Statistics& statistics,
                                        const std::optional<TiedHeads>& tied_heads,
                                        const LossModel& model, const ActivationLoss* sample,
                                        const Method& method, const WeightFormat& format,
                                        Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_GROUP_CHOOSE_SCALE_H_
