#include "core/model/blocks/attention.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "core/kernels/forward_kernels.h"
#include "core/linalg/gemm.h"
#include "core/model/blocks/soft_cap.h"

namespace salient {
namespace {

constexpr int64_t kKeyTile = 256;
constexpr float kBlind = -std::numeric_limits<float>::infinity();

static_assert(kTokenTile % kSoftmaxStep == 0 && kKeyTile % kTokenTile == 0);

// Holds kTokenTile queries of every head that shares one kv head, one under the other.
class QueryTile {
 public:
  QueryTile(const Matrix& query, const AttentionShape& shape, int64_t kv_head, int64_t first_query)
      : shape_(shape),
        kv_column_(kv_head * shape.head_dim),
        first_query_(first_query),
        // What is capped is scaled already.
        factor_(shape.soft_cap.has_value() ? 1.0f : static_cast<float>(shape.scale)),
        queries_(Matrix::Unset(shape.heads / shape.kv_heads * kTokenTile, shape.head_dim)),
        scores_(Matrix::Unset(queries_.rows(), kKeyTile)),
        context_(Matrix::Unset(queries_.rows(), shape.head_dim)),
        states_(static_cast<size_t>(queries_.rows()), SoftmaxState{kBlind, 0}) {
    const int64_t column = kv_column_ * (shape.heads / shape.kv_heads);
    for (int64_t row = 0; row < queries_.rows(); ++row) {
      const float* from =
          query.Row(first_query + row % kTokenTile) + column + row / kTokenTile * shape.head_dim;
      std::memcpy(queries_.Row(row), from, static_cast<size_t>(shape.head_dim) * sizeof(float));
    }
  }

  absl::Status See(const Matrix& key, const Matrix& value) {
    const int64_t window = shape_.window.value_or(key.rows());
    // The window is cut in whole tiles.
    const int64_t begin = std::max<int64_t>(0, first_query_ - window + 1) / kTokenTile * kTokenTile;
    const int64_t end = first_query_ + kTokenTile;
    for (int64_t first = begin; first < end; first += kKeyTile) {
      const int64_t keys = std::min(kKeyTile, end - first);
      absl::Status status = Gemm(
          Op::kPlain, Op::kTransposed, queries_.rows(), keys, shape_.head_dim, queries_.data(),
          shape_.head_dim, key.Row(first) + kv_column_, key.cols(), 0.0f, scores_.data(), keys);
      if (!status.ok()) return status;
      for (int64_t row = 0; row < queries_.rows(); ++row) {
        Weigh(row, first, keys, window, scores_.data() + row * keys);
      }
      status = Gemm(Op::kPlain, Op::kPlain, queries_.rows(), shape_.head_dim, keys, scores_.data(),
                    keys, value.Row(first) + kv_column_, value.cols(), first == begin ? 0.0f : 1.0f,
                    context_.data(), shape_.head_dim);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  void Write(Activations& out) const {
    const int64_t column = kv_column_ * (shape_.heads / shape_.kv_heads);
    for (int64_t row = 0; row < queries_.rows(); ++row) {
      const int64_t token = first_query_ + row % kTokenTile;
      if (token >= out.tokens()) continue;
      const auto inverse = static_cast<float>(1 / states_[static_cast<size_t>(row)].sum);
      out.Fill(token, column + row / kTokenTile * shape_.head_dim,
               [&](auto* to) { Scale(context_.Row(row), inverse, shape_.head_dim, to); });
    }
  }

 private:
  // Scores of keys [first, first + keys) become weights; what is in the context already is
  // brought to the same scale.
  void Weigh(int64_t row, int64_t first, int64_t keys, int64_t window, float* scores) {
    const int64_t end = first_query_ + row % kTokenTile + 1 - first;
    const int64_t begin = std::max<int64_t>(0, end - window);
    if (begin >= keys) {
      std::fill(scores, scores + keys, 0.0f);
      return;
    }
    if (shape_.soft_cap.has_value()) {
      SoftCap(shape_.scale, *shape_.soft_cap, keys, scores);
    }
    std::fill(scores, scores + begin, kBlind);
    if (end < keys) std::fill(scores + end, scores + keys, kBlind);
    SoftmaxState& state = states_[static_cast<size_t>(row)];
    const bool seen = state.largest > kBlind;
    const float kept = SoftmaxPart(scores, keys, factor_, state);
    if (seen && kept != 1) {
      Scale(context_.Row(row), kept, shape_.head_dim, context_.Row(row));
    }
  }

  const AttentionShape& shape_;
  int64_t kv_column_;
  int64_t first_query_;
  float factor_;
  Matrix queries_;
  Matrix scores_;
  Matrix context_;
  std::vector<SoftmaxState> states_;
};

}  // namespace

absl::StatusOr<Activations> CausalAttention(const Matrix& query, const Matrix& key,
                                            const Matrix& value, int64_t tokens,
                                            const AttentionShape& shape, ComputeDType compute,
                                            Executor& executor) {
  Activations context(compute, tokens, query.cols());
  const int64_t tiles = query.rows() / kTokenTile;
  const absl::Status status = executor.ForEach(shape.kv_heads * tiles, [&](int64_t task) {
    // Later queries see more: the longest tasks come first, so that none is left at the end.
    const int64_t first_query = (tiles - 1 - task / shape.kv_heads) * kTokenTile;
    QueryTile tile(query, shape, task % shape.kv_heads, first_query);
    if (absl::Status seen = tile.See(key, value); !seen.ok()) return seen;
    tile.Write(context);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return context;
}

int64_t AttentionTaskBytes(const AttentionShape& shape) {
  const int64_t rows = shape.heads / shape.kv_heads * kTokenTile;
  return rows * ((kKeyTile + 2 * shape.head_dim) * static_cast<int64_t>(sizeof(float)) +
                 static_cast<int64_t>(sizeof(SoftmaxState)));
}

}  // namespace salient
