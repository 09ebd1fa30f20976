// The AWQ scale search (Lin et al., "AWQ: Activation-aware Weight Quantization for LLM
// Compression and Acceleration", arXiv:2306.00978, eq. 4), on statistics instead of tokens.
#ifndef SALIENT_CORE_METHOD_SCALE_AWQ_H_
#define SALIENT_CORE_METHOD_SCALE_AWQ_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/linalg/executor.h"
#include "core/method/scale_candidates.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/weight_view.h"

namespace salient {

struct ScaleSearch {
  std::vector<float> scales;  // [in_features], > 0
  ScaleCandidate chosen;
  std::vector<ScaleCandidate> candidates;  // those that were evaluated on every row
  std::vector<double> losses;  // of candidates, round-to-nearest on min-max; sums over tokens
};

struct ScaleAwqParams {
  bool autoawq = false;  // AutoAWQ's candidates, quantizer and tie rule; exhaustive
  std::optional<TiedHeads> tied_heads;
  // Every candidate on every row, by LossModel: the twin that the search is held against.
  bool exhaustive = false;
};

// Searches one s for `weights` (all with the same in_features) on round-to-nearest loss. Where rows
// are many, all candidates are first compared on a sample of rows without the products of their
// errors with each other; identity and the few best are then evaluated in full. Screening loses
// what tests/core/method/scale_screening_test.cc bounds.
absl::StatusOr<ScaleSearch> SearchAwqScale(absl::Span<const WeightView> weights,
                                           const Statistics& statistics, const LossModel& model,
                                           const WeightFormat& format, const ScaleAwqParams& params,
                                           Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SCALE_AWQ_H_
