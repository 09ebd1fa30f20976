// Rounding on the whole of H: GPTQ (Frantar et al., arXiv:2210.17323), then coordinate descent on
// the codes and the group scales. It needs statistics that keep the whole X^T X.
#ifndef SALIENT_CORE_METHOD_ROUND_GPTQ_H_
#define SALIENT_CORE_METHOD_ROUND_GPTQ_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/method.h"
#include "core/method/round_nearest.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/affine_groups.h"

namespace salient {

// INVALID_ARGUMENT naming the field, its value and what was expected.
absl::Status ValidateRoundGptqParams(const RoundGptqParams& params);

struct GptqRounding {
  std::vector<AffineGroups> groups;  // Each input has one.
  // This was used: it is above params.damping if H could not be factored with that.
  float damping = 0;
};

// Rounds the weights w s [O, I] of Linears that read the same input, hence share s and H, on the
// affine maps of their ranges. With A = H / (n s_i s_j), uncentred, plus damping times its mean
// diagonal on the diagonal:
//
// 1. codes column by column, in place or by falling diagonal; each error w s - w' is spread over
//    the columns still to come as A asks. Groups, their scales and zero points stay where they are.
//    The paper works with U, U^T U = A^-1. Here A = R R^T, R = U^-1 upper triangular: with errors
//    d of the columns before, column c is rounded at w_c s_c + (sum_j<c d_j R_jc) / R_cc, which is
//    the same, and no inverse is taken.
// 2. `refits` times: `descent_sweeps` sweeps over the codes, each set to the one with the least
//    d A d^T given all others; then each group scale likewise, zero points and codes fixed, where
//    that lowers the loss (not under kWholeTensor, whose scale all rows share);
// 3. one more sweep over the codes if there are any, or all `descent_sweeps` where there are no
//    refits.
//
// Steps 2 and 3 never raise d A d^T of a row. Scales of the result are representable in
// format.scale_dtype. Every row is rounded on its own, so results do not depend on the executor.
// Beside the model one matrix [I, I] is held. Where A cannot be factored the damping is raised:
// doubled, at least to 0.01, up to 10.
//
// Errors: as ValidateRoundGptqParams; INVALID_ARGUMENT saying what to do if the statistics do not
// keep the whole of H; INTERNAL if A could not be factored with any damping; CANCELLED from the
// executor, between panels of columns and of rows.
absl::StatusOr<GptqRounding> RoundGptq(absl::Span<const RoundInput> inputs,
                                       absl::Span<const float> scales, const LossModel& model,
                                       const WeightFormat& format, const RoundGptqParams& params,
                                       Executor& executor);

// Bytes RoundGptq holds at most beside its inputs and result.
int64_t RoundGptqMemoryBytes(int64_t in_features, int concurrency);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_ROUND_GPTQ_H_
