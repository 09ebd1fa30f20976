// The AWQ scale search (Lin et al., "AWQ: Activation-aware Weight Quantization for LLM
// Compression and Acceleration", arXiv:2306.00978, eq. 4), on statistics instead of tokens.
#ifndef SALIENT_CORE_METHOD_SCALE_AWQ_H_
#define SALIENT_CORE_METHOD_SCALE_AWQ_H_

#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/scale_candidates.h"
#include "core/method/scale_contest.h"
#include "core/method/scale_search.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/weight_view.h"

namespace salient {

struct ScaleAwqParams {
  bool autoawq = false;  // It has AutoAWQ's candidates, quantizer and tie rule, and is exhaustive.
  std::optional<TiedHeads> tied_heads;
  bool exhaustive = false;  // It means what it does in ScaleSearchParams.
};

// The candidates for `weights` (all with the same in_features). CANCELLED from `executor`.
absl::StatusOr<ScaleProposals> ProposeAwqScales(absl::Span<const WeightView> weights,
                                                const Statistics& statistics,
                                                const WeightFormat& format,
                                                const ScaleAwqParams& params, Executor& executor);

// SearchScales among them.
absl::StatusOr<ScaleSearch> SearchAwqScale(absl::Span<const WeightView> weights,
                                           const Statistics& statistics, const LossModel& model,
                                           const WeightFormat& format, const ScaleAwqParams& params,
                                           Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SCALE_AWQ_H_
