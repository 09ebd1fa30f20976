#include "core/group/choose_scale.h"

#include <limits>
#include <utility>

#include "core/method/scale_awq.h"
#include "core/method/scale_contest.h"
#include "core/method/scale_search.h"
#include "core/method/scale_smoothquant.h"
#include "core/tensor/non_finite.h"
#include "core/tensor/weight_view.h"

namespace salient {
namespace {

absl::StatusOr<ScaleProposals> Propose(absl::Span<const WeightView> weights,
                                       const Statistics& statistics,
                                       const std::optional<TiedHeads>& tied_heads,
                                       const Method& method, const WeightFormat& format,
                                       Executor& executor) {
  if (method.scale == ScaleChoice::kAwq) {
    return ProposeAwqScales(weights, statistics, format, {method.autoawq, tied_heads}, executor);
  }
  absl::Status status = ValidateScaleSmoothQuantParams(method.smoothquant);
  if (!status.ok()) return status;
  return ProposeSmoothQuantScales(weights, statistics, method.smoothquant,
                                  tied_heads.has_value() ? &*tied_heads : nullptr, executor);
}

// Sums over the Linears, by candidate.
absl::StatusOr<std::vector<Loss>> LossesOnSample(const ScaleProposals& proposals,
                                                 const ActivationLoss& sample,
                                                 const WeightFormat& format, Executor& executor) {
  std::vector<Loss> total;
  for (const std::vector<float>& scales : proposals.scales) {
    const absl::StatusOr<std::vector<Loss>> losses = sample.Nearest(scales, format, executor);
    // A candidate that makes weights too large cannot win; the first leaves them as they are.
    if (!total.empty() && IsNonFinite(losses.status())) {
      total.push_back({std::numeric_limits<double>::infinity(), {}, false});
      continue;
    }
    if (!losses.ok()) return losses.status();
    Loss& sum = total.emplace_back();
    for (const Loss& loss : *losses) sum.Add(loss);
  }
  return total;
}

}  // namespace

absl::StatusOr<ChosenScale> ChooseScale(absl::Span<const Linear> linears,
                                        const Statistics& statistics,
                                        const std::optional<TiedHeads>& tied_heads,
                                        const LossModel& model, const ActivationLoss* sample,
                                        const Method& method, const WeightFormat& format,
                                        Executor& executor) {
  if (method.scale == ScaleChoice::kNone) {
    return ChosenScale{std::vector<float>(static_cast<size_t>(model.in_features()), 1.0f), {}};
  }
  const StageScope stage(executor, Stage::kScaleSearch);
  std::vector<WeightView> weights;
  for (const Linear& linear : linears) weights.push_back(linear.weight);
  absl::StatusOr<ScaleProposals> proposals =
      Propose(weights, statistics, tied_heads, method, format, executor);
  if (!proposals.ok()) return proposals.status();
  size_t best = 0;
  if (proposals->candidates.size() > 1) {
    if (sample == nullptr) {
      absl::StatusOr<ScaleSearch> search =
          SearchScales(weights, *std::move(proposals), model, format, {method.autoawq}, executor);
      if (!search.ok()) return search.status();
      return ChosenScale{std::move(search->scales), search->chosen};
    }
    const absl::StatusOr<std::vector<Loss>> losses =
        LossesOnSample(*proposals, *sample, format, executor);
    if (!losses.ok()) return losses.status();
    best = LeastLoss(*losses, method.autoawq);
  }
  return ChosenScale{std::move(proposals->scales[best]), proposals->candidates[best]};
}

}  // namespace salient
