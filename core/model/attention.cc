#include "core/model/attention.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "core/linalg/gemm.h"
#include "core/model/projection.h"

namespace salient {
namespace {

// Softmax over scores[begin, end) times `factor`; the rest of [0, count) becomes 0.
void Softmax(float* scores, int64_t begin, int64_t end, int64_t count, float factor) {
  const float largest = *std::max_element(scores + begin, scores + end);
  double sum = 0;
  for (int64_t i = begin; i < end; ++i) {
    scores[i] = std::exp((scores[i] - largest) * factor);
    sum += scores[i];
  }
  const float inverse = static_cast<float>(1 / sum);
  for (int64_t i = begin; i < end; ++i) scores[i] *= inverse;
  std::fill(scores, scores + begin, 0.0f);
  std::fill(scores + end, scores + count, 0.0f);
}

}  // namespace

absl::StatusOr<Matrix> CausalAttention(const Matrix& query, const Matrix& key, const Matrix& value,
                                       const AttentionShape& shape, Executor& executor) {
  const int64_t tiles = query.rows() / kTokenTile;
  const int64_t dim = shape.head_dim;
  const int64_t shared = shape.heads / shape.kv_heads;
  const float factor = static_cast<float>(1 / std::sqrt(static_cast<double>(dim)));
  Matrix context(query.rows(), query.cols());
  const absl::Status status = executor.ForEach(shape.heads * tiles, [&](int64_t task) {
    const int64_t head = task / tiles;
    const int64_t first_query = task % tiles * kTokenTile;
    const int64_t window = shape.window.value_or(query.rows());
    // Keys [first_key, first_key + keys) are all that these queries see, in whole tiles.
    const int64_t first_key =
        std::max<int64_t>(0, first_query - window + 1) / kTokenTile * kTokenTile;
    const int64_t keys = first_query + kTokenTile - first_key;
    const int64_t kv_column = head / shared * dim;
    Matrix scores(kTokenTile, keys);
    absl::Status product = Gemm(
        Op::kPlain, Op::kTransposed, kTokenTile, keys, dim, query.Row(first_query) + head * dim,
        query.cols(), key.Row(first_key) + kv_column, key.cols(), 0.0f, scores.data(), keys);
    if (!product.ok()) return product;
    for (int64_t row = 0; row < kTokenTile; ++row) {
      const int64_t end = first_query + row + 1 - first_key;
      Softmax(scores.Row(row), std::max<int64_t>(0, end - window), end, keys, factor);
    }
    return Gemm(Op::kPlain, Op::kPlain, kTokenTile, dim, keys, scores.data(), keys,
                value.Row(first_key) + kv_column, value.cols(), 0.0f,
                context.Row(first_query) + head * dim, context.cols());
  });
  if (!status.ok()) return status;
  return context;
}

}  // namespace salient
