// Says what a study of salient channels will cost, computed from shapes alone.
#ifndef SALIENT_CORE_COST_STUDY_COST_H_
#define SALIENT_CORE_COST_STUDY_COST_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/cost/model_cost.h"
#include "core/model/model.h"
#include "core/study/study_model.h"

namespace salient {

struct StudyCost {
  ModelCost total;
  // It is the share of the work, 0 to 1, that is left when the channels are chosen.
  double evaluation_share = 0;
};

// Returns the cost of StudyModel. Its errors are those of CheckStudy.
absl::StatusOr<StudyCost> CostOfStudying(const Model& model,
                                         absl::Span<const int64_t> calibration_row_tokens,
                                         absl::Span<const int64_t> evaluation_row_tokens,
                                         const StudyModelParams& params, int concurrency);

}  // namespace salient

#endif  // SALIENT_CORE_COST_STUDY_COST_H_
