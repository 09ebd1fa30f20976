// The scales that searches try, and what they are made of.
#ifndef SALIENT_CORE_METHOD_SCALE_CANDIDATES_H_
#define SALIENT_CORE_METHOD_SCALE_CANDIDATES_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/parallel/executor.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Input channel j of o_proj belongs to query head j / head_dim. Heads that read one kv head
// must share s, because only then can it be folded into v_proj: channels
// (h, d) and (h', d) are tied when h / query_heads_per_kv_head == h' / query_heads_per_kv_head.
struct TiedHeads {
  int64_t head_dim = 0;
  int64_t query_heads_per_kv_head = 1;
};

// s_j = x_j^ratio, or x_j^ratio / w_j^(1 - ratio) when `weight_aware`. `smoothquant`: of the
// largest |x_j| and |W_ij| instead of the means, weight-aware, the ratio alpha.
struct ScaleCandidate {
  bool identity = true;
  bool weight_aware = false;
  double ratio = 0;
  bool smoothquant = false;
  bool operator==(const ScaleCandidate&) const = default;
};

// Holds what the candidates of a group are made of. [in_features] each.
struct ChannelMagnitudes {
  std::vector<double> x;  // It is the mean |x_j|.
  // Mean over rows of |W_ij| over the largest of its (row, group); kWholeTensor: of its weight.
  std::vector<double> w;
};

// Raises each to at least 2^-7 of their mean.
void FloorAtShareOfMean(std::vector<double>& channels);

// Pools the channels of `tied`, if any. Both are floored at 2^-7 of their mean unless `autoawq`:
// a channel that calibration never saw must not die.
absl::StatusOr<ChannelMagnitudes> MeasureChannels(absl::Span<const WeightView> weights,
                                                  const Statistics& statistics,
                                                  const WeightFormat& format, bool autoawq,
                                                  const TiedHeads* tied, Executor& executor);

// Ratios, and alphas of SmoothQuant, are multiples of one by this.
inline constexpr int kRatioSteps = 20;

// Identity first, then ratios by 1/20: the plain ones, the weight-aware ones. `autoawq`:
// weight-aware ratios 0 to 0.95 only.
std::vector<ScaleCandidate> AllScaleCandidates(bool autoawq);

// s [in_features], divided by sqrt(max min) and, unless `autoawq`, rounded to 8 significant bits.
std::vector<float> ScalesOf(const ScaleCandidate& candidate, const ChannelMagnitudes& channels,
                            bool autoawq);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SCALE_CANDIDATES_H_
