// The scales of SmoothQuant (Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training
// Quantization for Large Language Models", arXiv:2211.10438, eq. 4): outliers of the activations
// move into the weights, as far as alpha says.
#ifndef SALIENT_CORE_METHOD_SCALE_SMOOTHQUANT_H_
#define SALIENT_CORE_METHOD_SCALE_SMOOTHQUANT_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/method.h"
#include "core/method/scale_candidates.h"
#include "core/method/scale_contest.h"
#include "core/method/scale_search.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"
#include "core/tensor/weight_view.h"

namespace salient {

// INVALID_ARGUMENT naming the field, its value and what was expected.
absl::Status ValidateScaleSmoothQuantParams(const ScaleSmoothQuantParams& params);

// Returns what is searched among: identity, then alpha by 1/20 from 0 to 1.
std::vector<ScaleCandidate> SmoothQuantCandidates();

// s_j = x_j^alpha / w_j^(1 - alpha), x_j the largest |x_j| over calibration tokens, w_j the largest
// |W_ij| over all rows of all `weights` (which have the same in_features). Both at least 2^-7 of
// their mean over j, so that a channel that never fires does not die; of channels that `tied`
// joins, if any, the largest. Each s divided by sqrt(max min) and rounded to 8 significant bits.
//
// One proposal if params.alpha is fixed; else identity and alpha = 0, 0.05 ... 1, for a search to
// choose from. `params` are valid. CANCELLED from `executor`.
absl::StatusOr<ScaleProposals> ProposeSmoothQuantScales(absl::Span<const WeightView> weights,
                                                        const Statistics& statistics,
                                                        const ScaleSmoothQuantParams& params,
                                                        const TiedHeads* tied, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SCALE_SMOOTHQUANT_H_
