// Causal grouped-query attention of one calibration row (Ainslie et al., "GQA",
// arXiv:2305.13245).
#ifndef SALIENT_CORE_MODEL_ATTENTION_H_
#define SALIENT_CORE_MODEL_ATTENTION_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "core/linalg/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;
  std::optional<int64_t> window;  // positions a query sees, its own included
};

// query [tokens, heads head_dim], key and value [tokens, kv_heads head_dim], turned already;
// tokens a multiple of kTokenTile. Gives softmax(q k^T / sqrt(head_dim)) v, head beside head,
// [tokens, heads head_dim].
//
// Works on one head and kTokenTile queries at a time: a worker holds [kTokenTile, tokens] scores.
// The same bits for any executor.
absl::StatusOr<Matrix> CausalAttention(const Matrix& query, const Matrix& key, const Matrix& value,
                                       const AttentionShape& shape, Executor& executor);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_ATTENTION_H_
