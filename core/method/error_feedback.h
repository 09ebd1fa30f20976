// The first codes of block rounding: the error of each column spread over those still to come.
#ifndef SALIENT_CORE_METHOD_ERROR_FEEDBACK_H_
#define SALIENT_CORE_METHOD_ERROR_FEEDBACK_H_

#include <cstdint>

#include "absl/types/span.h"
#include "core/method/block_curvature.h"
#include "core/method/coordinate_descent.h"

namespace salient {

// Sets the codes of `panel`, of capacity kPanelRows and begun on these blocks, by GPTQ inside each
// (PanelGptq) on the panel's maps. Row t of the weight begins at rows + t * stride in the panel's
// first column.
void FeedBackErrors(absl::Span<const BlockCurvature> blocks, const float* rows, int64_t stride,
                    DescentPanel& panel);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_ERROR_FEEDBACK_H_
