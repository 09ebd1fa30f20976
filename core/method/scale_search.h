// Finds which of some proposed scales is best for round-to-nearest, by the loss on statistics.
#ifndef SALIENT_CORE_METHOD_SCALE_SEARCH_H_
#define SALIENT_CORE_METHOD_SCALE_SEARCH_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/scale_candidates.h"
#include "core/method/scale_contest.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Up to so many rows every candidate is evaluated in full; with more, screening looks at no fewer
// than the second, and leaves so many candidates beside identity.
inline constexpr int64_t kUnscreenedRows = 128;
inline constexpr int64_t kScreenedRows = 512;
inline constexpr size_t kScreenFinalists = 5;

struct ScaleSearch {
  std::vector<float> scales;  // They are [in_features], above 0.
  ScaleCandidate chosen;
  std::vector<ScaleCandidate> candidates;  // These were evaluated on every row.
  // They are those of candidates, round-to-nearest on min-max, as sums over tokens.
  std::vector<double> losses;
};

struct ScaleSearchParams {
  bool autoawq = false;  // It has AutoAWQ's quantizer and tie rule, and is exhaustive.
  // Every candidate on every row, by LossModel: the twin that the search is held against.
  bool exhaustive = false;
};

// Searches one s for `weights` (all with the same in_features) on round-to-nearest loss. Where rows
// are many, all candidates are first compared on a sample of rows without the products of their
// errors with each other; identity, which comes first, and the few best are then evaluated in full.
// Screening loses what tests/core/method/scale_screening_test.cc bounds. CANCELLED from `executor`.
absl::StatusOr<ScaleSearch> SearchScales(absl::Span<const WeightView> weights,
                                         ScaleProposals proposals, const LossModel& model,
                                         const WeightFormat& format,
                                         const ScaleSearchParams& params, Executor& executor);

// Returns where the least of `losses` stands, but 0 (identity's place) if it is not below the first
// by more than the standard error of their difference. `autoawq`: the first of the least.
size_t LeastLoss(absl::Span<const Loss> losses, bool autoawq);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SCALE_SEARCH_H_
