// Computes causal grouped-query attention of one calibration row (Ainslie et al., "GQA",
// arXiv:2305.13245), its softmax in parts (Dao et al., "FlashAttention", arXiv:2205.14135).
#ifndef SALIENT_CORE_MODEL_BLOCKS_ATTENTION_H_
#define SALIENT_CORE_MODEL_BLOCKS_ATTENTION_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "core/model/activations.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;  // It divides heads.
  int64_t head_dim = 0;
  std::optional<int64_t> window;  // A query sees so many positions, its own included.
  double scale = 0;
  std::optional<double> soft_cap = {};
};

// Takes query [padded tokens, heads head_dim], key and value [padded tokens, kv_heads head_dim],
// turned already. Gives softmax(q k^T scale) v of the first `tokens`, computed in f32, head beside
// head, as `compute` says; with a soft cap c, of c tanh(q k^T scale / c) (Gemma 2,
// arXiv:2408.00118).
//
// A task is kTokenTile queries of the heads that share a kv head; it sees kKeyTile keys at a time
// and none that all of its queries are blind for. The bits are the same for any executor.
absl::StatusOr<Activations> CausalAttention(const Matrix& query, const Matrix& key,
                                            const Matrix& value, int64_t tokens,
                                            const AttentionShape& shape, ComputeDType compute,
                                            Executor& executor);

// Returns the bytes that a task holds at most.
int64_t AttentionTaskBytes(const AttentionShape& shape);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_ATTENTION_H_
