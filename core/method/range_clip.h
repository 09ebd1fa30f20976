// Range: the shrunk range with the least loss inside each group.
#ifndef SALIENT_CORE_METHOD_RANGE_CLIP_H_
#define SALIENT_CORE_METHOD_RANGE_CLIP_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/ranges.h"
#include "core/parallel/executor.h"
#include "core/statistics/loss_model.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Columns of an error are multiplied so many at a time.
inline constexpr int64_t kClipPiece = 64;

// For each row and group, of the 20 factors 1, 0.975 ... 0.525 on both ends of the range, the
// one with the least d H_gg d^T; d is the error of the group's unclipped weights on the shrunk
// grid. On a tie the wider range stays. Where a group crosses the exact diagonal blocks of H, the
// parts in different blocks count as independent. kWholeTensor: one factor for the weight, by the
// sum of these losses.
//
// `autoawq`: 10 bounds absmax * (1 - i/20), weights clamped to +-bound before they are quantized
// by FitAffineAutoAwq (AutoAWQ 0.2.9, with all tokens instead of a sample).
//
// Losses of the factors are compared on bfloat16 errors and Gram blocks, with the diagonal and the
// mean in f32: a choice may differ from the twin's where two factors are as good as each other.
// `autoawq` is f32 throughout.
//
// Errors: as RangeMinMax.
absl::StatusOr<Ranges> RangeClip(const WeightView& weight, absl::Span<const float> scales,
                                 const LossModel& model, const WeightFormat& format, bool autoawq,
                                 Executor& executor);

// RangeClip, not `autoawq`, in f32: the twin that it is held against.
absl::StatusOr<Ranges> RangeClipTwin(const WeightView& weight, absl::Span<const float> scales,
                                     const LossModel& model, const WeightFormat& format,
                                     Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_RANGE_CLIP_H_
