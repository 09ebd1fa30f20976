#include "core/method/scale_awq.h"

#include <utility>

#include "core/method/scale_contest.h"

namespace salient {

absl::StatusOr<ScaleProposals> ProposeAwqScales(absl::Span<const WeightView> weights,
                                                const Statistics& statistics,
                                                const WeightFormat& format,
                                                const ScaleAwqParams& params, Executor& executor) {
  const StageScope stage(executor, Stage::kScaleSearch);
  absl::StatusOr<ChannelMagnitudes> channels =
      MeasureChannels(weights, statistics, format, params.autoawq,
                      params.tied_heads.has_value() ? &*params.tied_heads : nullptr, executor);
  if (!channels.ok()) return channels.status();
  ScaleProposals proposals;
  proposals.candidates = AllScaleCandidates(params.autoawq);
  for (const ScaleCandidate& candidate : proposals.candidates) {
    proposals.scales.push_back(ScalesOf(candidate, *channels, params.autoawq));
  }
  return proposals;
}

absl::StatusOr<ScaleSearch> SearchAwqScale(absl::Span<const WeightView> weights,
                                           const Statistics& statistics, const LossModel& model,
                                           const WeightFormat& format, const ScaleAwqParams& params,
                                           Executor& executor) {
  const StageScope stage(executor, Stage::kScaleSearch);
  absl::StatusOr<ScaleProposals> proposals =
      ProposeAwqScales(weights, statistics, format, params, executor);
  if (!proposals.ok()) return proposals.status();
  return SearchScales(weights, *std::move(proposals), model, format,
                      {params.autoawq, params.exhaustive}, executor);
}

}  // namespace salient
