// Rounding inside each exact diagonal block of H: error feedback as GPTQ's (Frantar et al.,
// arXiv:2210.17323), then coordinate descent on the codes and a least-squares refit of the group
// scales. It needs no statistic that clipping does not need.
#ifndef SALIENT_CORE_METHOD_ROUND_BLOCK_H_
#define SALIENT_CORE_METHOD_ROUND_BLOCK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/block_curvature.h"
#include "core/method/method.h"
#include "core/method/ranges.h"
#include "core/method/round_nearest.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/weight_view.h"

namespace salient {

// INVALID_ARGUMENT naming the field, its value and what was expected. `block_width` is that of
// the statistics.
absl::Status ValidateRoundBlockParams(const RoundBlockParams& params, int64_t block_width);

// Rounds the weights w s [O, I] of Linears that read the same input, hence share s and `blocks`
// (ShrinkBlocks of the same params), on the affine maps of their ranges. With H_B the curvature of
// a block:
//
// 1. codes column by column, by falling diagonal of H_B, each error spread over the columns still
//    to come (damping * mean diagonal added to H_B for this step, more where H_B cannot be factored
//    with that);
// 2. `refits` times: `descent_sweeps` sweeps over the codes, each set to the one with the least
//    d H_B d^T given all others; then each row's group scales by least squares on H_B, zero
//    points and codes fixed, kept where the row's loss falls;
// 3. one more sweep if there are any, or all `descent_sweeps` where there are no refits.
//
// Steps 2 and 3 never raise sum_B d H_B d^T of a row. Scales of the result are representable in
// format.scale_dtype. Every row is rounded on its own, so results do not depend on the executor.
// `params` are valid.
absl::StatusOr<std::vector<AffineGroups>> RoundBlock(absl::Span<const RoundInput> inputs,
                                                     absl::Span<const float> scales,
                                                     absl::Span<const BlockCurvature> blocks,
                                                     const WeightFormat& format,
                                                     const RoundBlockParams& params,
                                                     Executor& executor);

// Rounds one Linear from its statistics. Errors: as ValidateRoundBlockParams and ShrinkBlocks.
absl::StatusOr<AffineGroups> RoundBlock(const WeightView& weight, absl::Span<const float> scales,
                                        const Ranges& ranges, const LossModel& model,
                                        const WeightFormat& format, const RoundBlockParams& params,
                                        Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_ROUND_BLOCK_H_
