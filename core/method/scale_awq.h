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
#include "core/statistics/loss_model.h"
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

// s_j = x_j^ratio, or x_j^ratio / w_j^(1 - ratio) when `weight_aware`.
struct ScaleCandidate {
  bool identity = true;
  bool weight_aware = false;
  double ratio = 0;
  bool operator==(const ScaleCandidate&) const = default;
};

struct ScaleSearch {
  std::vector<float> scales;  // [in_features], > 0
  ScaleCandidate chosen;
  std::vector<ScaleCandidate> candidates;
  std::vector<double> losses;  // of candidates, round-to-nearest on min-max; sums over tokens
};

struct ScaleAwqParams {
  bool autoawq = false;  // AutoAWQ's candidates, quantizer and tie rule
  std::optional<TiedHeads> tied_heads;
};

// Searches one s for `weights` (all with the same in_features) on round-to-nearest loss.
absl::StatusOr<ScaleSearch> SearchAwqScale(absl::Span<const WeightView> weights,
                                           const Statistics& statistics, const LossModel& model,
                                           const WeightFormat& format, const ScaleAwqParams& params,
                                           Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SCALE_AWQ_H_
