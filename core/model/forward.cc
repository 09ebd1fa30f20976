#include "core/model/forward.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/linalg/tiles.h"

namespace salient {
namespace {

// Calls row(t) for every t of [0, rows), a tile of them in one task.
absl::Status ForEachRow(int64_t rows, absl::FunctionRef<void(int64_t)> row, Executor& executor) {
  const RowTiles tiles(rows, kTokenTile);
  return executor.ForEach(tiles.size(), [&](int64_t tile) {
    const int64_t first = tiles.First(tile);
    for (int64_t t = first; t < first + tiles.Count(tile); ++t) row(t);
    return absl::OkStatus();
  });
}

// hidden += the first rows of `change`.
absl::Status AddResidual(const Matrix& change, Matrix& hidden, Executor& executor) {
  return ForEachRow(
      hidden.rows(),
      [&](int64_t t) {
        for (int64_t i = 0; i < hidden.cols(); ++i) hidden.Row(t)[i] += change.Row(t)[i];
      },
      executor);
}

MatrixView FirstRows(const Matrix& matrix, int64_t rows) {
  return {matrix.data(), rows, matrix.cols(), matrix.cols()};
}

}  // namespace

absl::Status IgnoreGroup(GroupRole /*group*/, MatrixView /*input*/) { return absl::OkStatus(); }

absl::StatusOr<Matrix> RmsNorm(const Matrix& hidden, absl::Span<const float> weight, double epsilon,
                               Executor& executor) {
  Matrix normed(PaddedTokens(hidden.rows()), hidden.cols());
  const absl::Status status = ForEachRow(
      hidden.rows(),
      [&](int64_t t) {
        const float* x = hidden.Row(t);
        double squares = 0;
        for (int64_t i = 0; i < hidden.cols(); ++i) squares += static_cast<double>(x[i]) * x[i];
        const double mean = squares / static_cast<double>(hidden.cols());
        const float inverse = static_cast<float>(1 / std::sqrt(mean + epsilon));
        float* out = normed.Row(t);
        for (int64_t i = 0; i < hidden.cols(); ++i) {
          out[i] = x[i] * inverse * weight[static_cast<size_t>(i)];
        }
      },
      executor);
  if (!status.ok()) return status;
  return normed;
}

BlockForward::BlockForward(const Family& family, const ModelConfig& config, ComputeDType compute,
                           int64_t max_tokens)
    : compute_(compute),
      epsilon_(config.rms_norm_eps),
      hidden_size_(config.hidden_size),
      attention_{config.num_attention_heads, config.num_key_value_heads, config.head_dim,
                 family.sliding_window ? config.sliding_window : std::nullopt},
      rotary_(config, PaddedTokens(max_tokens)) {}

absl::StatusOr<Matrix> BlockForward::Attend(const BlockWeights& block, const Matrix& normed,
                                            Executor& executor) const {
  auto query = Project(normed, block.linear(LinearRole::kQuery), compute_, executor);
  if (!query.ok()) return query.status();
  auto key = Project(normed, block.linear(LinearRole::kKey), compute_, executor);
  if (!key.ok()) return key.status();
  const auto value = Project(normed, block.linear(LinearRole::kValue), compute_, executor);
  if (!value.ok()) return value.status();
  const absl::Status turned = ForEachRow(
      normed.rows(),
      [&](int64_t t) {
        rotary_.Turn(t, attention_.heads, query->Row(t));
        rotary_.Turn(t, attention_.kv_heads, key->Row(t));
      },
      executor);
  if (!turned.ok()) return turned;
  return CausalAttention(*query, *key, *value, attention_, executor);
}

absl::StatusOr<Matrix> BlockForward::Gate(const BlockWeights& block, const Matrix& normed,
                                          Executor& executor) const {
  auto gate = Project(normed, block.linear(LinearRole::kGate), compute_, executor);
  if (!gate.ok()) return gate.status();
  const auto up = Project(normed, block.linear(LinearRole::kUp), compute_, executor);
  if (!up.ok()) return up.status();
  const absl::Status status = ForEachRow(
      gate->rows(),
      [&](int64_t t) {
        float* g = gate->Row(t);
        for (int64_t i = 0; i < gate->cols(); ++i) {
          g[i] = g[i] / (1.0f + std::exp(-g[i])) * up->Row(t)[i];
        }
      },
      executor);
  if (!status.ok()) return status;
  return gate;
}

absl::StatusOr<Matrix> BlockForward::Run(const BlockWeights& block, Matrix hidden,
                                         GroupObserver observer, Executor& executor) const {
  const int64_t tokens = hidden.rows();
  if (tokens < 1 || tokens > rotary_.positions() || hidden.cols() != hidden_size_) {
    return absl::InvalidArgumentError(absl::StrCat("hidden states are [", tokens, ", ",
                                                   hidden.cols(), "]; expected [1 to ",
                                                   rotary_.positions(), ", ", hidden_size_, "]"));
  }
  {
    auto normed = RmsNorm(hidden, block.norm(NormRole::kInput).values, epsilon_, executor);
    if (!normed.ok()) return normed.status();
    absl::Status status = observer(GroupRole::kQkv, FirstRows(*normed, tokens));
    if (!status.ok()) return status;
    const auto context = Attend(block, *normed, executor);
    if (!context.ok()) return context.status();
    status = observer(GroupRole::kOutput, FirstRows(*context, tokens));
    if (!status.ok()) return status;
    const auto change = Project(*context, block.linear(LinearRole::kOutput), compute_, executor);
    if (!change.ok()) return change.status();
    status = AddResidual(*change, hidden, executor);
    if (!status.ok()) return status;
  }
  auto normed = RmsNorm(hidden, block.norm(NormRole::kPostAttention).values, epsilon_, executor);
  if (!normed.ok()) return normed.status();
  absl::Status status = observer(GroupRole::kGateUp, FirstRows(*normed, tokens));
  if (!status.ok()) return status;
  const auto inner = Gate(block, *normed, executor);
  if (!inner.ok()) return inner.status();
  status = observer(GroupRole::kDown, FirstRows(*inner, tokens));
  if (!status.ok()) return status;
  const auto change = Project(*inner, block.linear(LinearRole::kDown), compute_, executor);
  if (!change.ok()) return change.status();
  status = AddResidual(*change, hidden, executor);
  if (!status.ok()) return status;
  return hidden;
}

int64_t BlockForward::MemoryBytes(const ModelConfig& config, int64_t tokens, int concurrency) {
  const int64_t padded = PaddedTokens(tokens);
  const int64_t query = config.num_attention_heads * config.head_dim;
  const int64_t key = config.num_key_value_heads * config.head_dim;
  // Floats a token: the stream and its norm, and the larger of the two halves with the copy
  // that rounding to bf16 takes.
  const int64_t attention = 2 * query + 2 * key + std::max(query, config.hidden_size);
  const int64_t mlp =
      2 * config.intermediate_size + std::max(config.intermediate_size, 2 * config.hidden_size);
  const int64_t widest = std::max({config.hidden_size, config.intermediate_size, query});
  const int64_t per_worker = std::max(128 * widest, kTokenTile * padded);
  const int64_t floats = padded * (2 * config.hidden_size + std::max(attention, mlp)) +
                         concurrency * per_worker + padded * config.head_dim;
  return floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace salient
