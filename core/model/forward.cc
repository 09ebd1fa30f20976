#include "core/model/forward.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/kernels/forward_kernels.h"
#include "core/parallel/tiles.h"

namespace salient {
namespace {

constexpr LinearRole kQkvRoles[] = {LinearRole::kQuery, LinearRole::kKey, LinearRole::kValue};
constexpr LinearRole kGateUpRoles[] = {LinearRole::kGate, LinearRole::kUp};

// Calls row(t) for every t of [0, rows), a tile of them in one task.
absl::Status ForEachRow(int64_t rows, absl::FunctionRef<void(int64_t)> row, Executor& executor) {
  const RowTiles tiles(rows, kTokenTile);
  return executor.ForEach(tiles.size(), [&](int64_t tile) {
    const int64_t first = tiles.First(tile);
    for (int64_t t = first; t < first + tiles.Count(tile); ++t) row(t);
    return absl::OkStatus();
  });
}

// Calls piece(slice, first_token, tokens) for all slices of outputs and all tiles of tokens. Those
// of a slice follow each other: it stays in the cache that the cores share.
absl::Status ForEachPiece(
    int64_t slices, int64_t padded_tokens, ComputeDType compute,
    absl::FunctionRef<absl::Status(int64_t slice, int64_t first_token, int64_t tokens)> piece,
    Executor& executor) {
  const RowTiles tiles(padded_tokens, TokensAtATime(compute));
  return executor.ForEach(slices * tiles.size(), [&](int64_t i) {
    const int64_t tile = i % tiles.size();
    return piece(i / tiles.size(), tiles.First(tile), tiles.Count(tile));
  });
}

}  // namespace

absl::Status IgnoreGroup(GroupRole /*group*/, const Activations& /*input*/) {
  return absl::OkStatus();
}

absl::StatusOr<Matrix> RmsNorm(const Matrix& hidden, absl::Span<const float> weight, double epsilon,
                               Executor& executor) {
  Matrix normed(PaddedTokens(hidden.rows()), hidden.cols());
  const absl::Status status = ForEachRow(
      hidden.rows(),
      [&](int64_t t) {
        NormalizeRow(hidden.Row(t), weight.data(), hidden.cols(), epsilon, normed.Row(t));
      },
      executor);
  if (!status.ok()) return status;
  return normed;
}

BlockForward::BlockForward(const ModelConfig& config, ComputeDType compute, int64_t max_tokens)
    : config_(config),
      compute_(compute),
      attention_{config.num_attention_heads, config.num_key_value_heads, config.head_dim,
                 config.sliding_window},
      rotary_(config, PaddedTokens(max_tokens)) {}

absl::StatusOr<PreparedBlock> BlockForward::Prepare(const BlockWeights& block,
                                                    Executor& executor) const {
  return PreparedBlock::Create(block, compute_, attention_.head_dim, executor);
}

absl::StatusOr<Activations> BlockForward::Norm(const Matrix& hidden, const StoredVector& weight,
                                               Executor& executor) const {
  Activations normed(compute_, hidden.rows(), hidden.cols());
  const absl::Status status = ForEachRow(
      hidden.rows(),
      [&](int64_t t) {
        normed.Fill(t, 0, [&](auto* out) {
          NormalizeRow(hidden.Row(t), weight.values.data(), hidden.cols(), config_.rms_norm_eps,
                       out);
        });
      },
      executor);
  if (!status.ok()) return status;
  return normed;
}

absl::StatusOr<Activations> BlockForward::Attend(const PreparedBlock& block, RoundedInputs normed,
                                                 Executor& executor) const {
  struct Part {
    const PreparedLinear* linear;
    const Activations* input;
    int64_t heads;
    bool turned;
    Matrix out;
  };
  std::array<Part, 3> parts = {
      Part{&block.linear(LinearRole::kQuery), &normed.Of(LinearRole::kQuery), attention_.heads,
           true, Matrix()},
      Part{&block.linear(LinearRole::kKey), &normed.Of(LinearRole::kKey), attention_.kv_heads, true,
           Matrix()},
      Part{&block.linear(LinearRole::kValue), &normed.Of(LinearRole::kValue), attention_.kv_heads,
           false, Matrix()}};
  int64_t slices = 0;
  for (Part& part : parts) {
    part.out = Matrix::Unset(normed.padded_tokens(), part.heads * attention_.head_dim);
    slices += part.linear->Slices().size();
  }
  const auto project = [&](int64_t slice, int64_t first_token, int64_t tokens) {
    Part* part = parts.data();
    for (; slice >= part->linear->Slices().size(); ++part) slice -= part->linear->Slices().size();
    const RowTiles outputs = part->linear->Slices();
    const int64_t count = outputs.Count(slice);
    Matrix out = Matrix::Unset(tokens, count);
    absl::Status status =
        part->linear->Multiply(*part->input, first_token, tokens, slice, out.data());
    if (!status.ok()) return status;
    for (int64_t t = 0; t < tokens; ++t) {
      if (part->turned) rotary_.Turn(first_token + t, count / attention_.head_dim, out.Row(t));
      std::copy_n(out.Row(t), count, part->out.Row(first_token + t) + outputs.First(slice));
    }
    return status;
  };
  const int64_t tokens = normed.tokens();
  const absl::Status status =
      ForEachPiece(slices, normed.padded_tokens(), compute_, project, executor);
  if (!status.ok()) return status;
  { const RoundedInputs done = std::move(normed); }
  return CausalAttention(parts[0].out, parts[1].out, parts[2].out, tokens, attention_, compute_,
                         executor);
}

absl::StatusOr<Activations> BlockForward::Gate(const PreparedBlock& block,
                                               const RoundedInputs& normed,
                                               Executor& executor) const {
  const PreparedLinear& gate = block.linear(LinearRole::kGate);
  const PreparedLinear& up = block.linear(LinearRole::kUp);
  const Activations& gate_input = normed.Of(LinearRole::kGate);
  const Activations& up_input = normed.Of(LinearRole::kUp);
  Activations inner(compute_, normed.tokens(), gate.out_features());
  const auto piece = [&](int64_t slice, int64_t first_token, int64_t tokens) {
    const int64_t count = gate.Slices().Count(slice);
    Matrix g = Matrix::Unset(tokens, count);
    Matrix u = Matrix::Unset(tokens, count);
    absl::Status status = gate.Multiply(gate_input, first_token, tokens, slice, g.data());
    if (!status.ok()) return status;
    status = up.Multiply(up_input, first_token, tokens, slice, u.data());
    if (!status.ok()) return status;
    const int64_t used = std::min(tokens, normed.tokens() - first_token);
    for (int64_t t = 0; t < used; ++t) {
      inner.Fill(first_token + t, gate.Slices().First(slice),
                 [&](auto* out) { SiluProduct(g.Row(t), u.Row(t), count, out); });
    }
    return status;
  };
  const absl::Status status =
      ForEachPiece(gate.Slices().size(), normed.padded_tokens(), compute_, piece, executor);
  if (!status.ok()) return status;
  return inner;
}

// Computes hidden += linear(input), for the only Linear that reads it.
absl::Status BlockForward::AddProduct(const PreparedBlock& block, LinearRole role,
                                      Activations input, Matrix& hidden, Executor& executor) const {
  const PreparedLinear& linear = block.linear(role);
  if (absl::Status status = RoundActivations(linear.input(), input, executor); !status.ok()) {
    return status;
  }
  const auto piece = [&](int64_t slice, int64_t first_token, int64_t tokens) {
    const int64_t count = linear.Slices().Count(slice);
    Matrix change = Matrix::Unset(tokens, count);
    absl::Status status = linear.Multiply(input, first_token, tokens, slice, change.data());
    if (!status.ok()) return status;
    const int64_t used = std::min(tokens, hidden.rows() - first_token);
    for (int64_t t = 0; t < used; ++t) {
      AddTo(change.Row(t), count, hidden.Row(first_token + t) + linear.Slices().First(slice));
    }
    return status;
  };
  return ForEachPiece(linear.Slices().size(), input.padded_tokens(), compute_, piece, executor);
}

absl::StatusOr<Matrix> BlockForward::Run(const PreparedBlock& block, Matrix hidden,
                                         GroupObserver observer, Executor& executor) const {
  const int64_t tokens = hidden.rows();
  if (tokens < 1 || tokens > rotary_.positions() || hidden.cols() != config_.hidden_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("hidden states are [", tokens, ", ", hidden.cols(), "]; expected [1 to ",
                     rotary_.positions(), ", ", config_.hidden_size, "]"));
  }
  {
    auto normed = Norm(hidden, block.norm(NormRole::kInput), executor);
    if (!normed.ok()) return normed.status();
    absl::Status status = observer(GroupRole::kQkv, *normed);
    if (!status.ok()) return status;
    auto inputs = RoundedInputs::Create(block, kQkvRoles, *std::move(normed), executor);
    if (!inputs.ok()) return inputs.status();
    auto context = Attend(block, *std::move(inputs), executor);
    if (!context.ok()) return context.status();
    status = observer(GroupRole::kOutput, *context);
    if (!status.ok()) return status;
    status = AddProduct(block, LinearRole::kOutput, *std::move(context), hidden, executor);
    if (!status.ok()) return status;
  }
  auto normed = Norm(hidden, block.norm(NormRole::kPostAttention), executor);
  if (!normed.ok()) return normed.status();
  absl::Status status = observer(GroupRole::kGateUp, *normed);
  if (!status.ok()) return status;
  auto inputs = RoundedInputs::Create(block, kGateUpRoles, *std::move(normed), executor);
  if (!inputs.ok()) return inputs.status();
  auto inner = Gate(block, *inputs, executor);
  if (!inner.ok()) return inner.status();
  status = observer(GroupRole::kDown, *inner);
  if (!status.ok()) return status;
  status = AddProduct(block, LinearRole::kDown, *std::move(inner), hidden, executor);
  if (!status.ok()) return status;
  return hidden;
}

int64_t BlockForward::MemoryBytes(const ModelConfig& config, ComputeDType compute, int64_t tokens,
                                  int concurrency) {
  constexpr auto kF32Bytes = static_cast<int64_t>(sizeof(float));
  const int64_t padded = PaddedTokens(tokens);
  const int64_t query = config.num_attention_heads * config.head_dim;
  const int64_t key = config.num_key_value_heads * config.head_dim;
  const int64_t element = compute == ComputeDType::kBF16 ? 2 : kF32Bytes;
  // Bytes a token: the stream, and the larger of the two halves. What the queries were made of is
  // gone when attention gives its own.
  const int64_t attention =
      (query + 2 * key) * kF32Bytes + std::max(query, config.hidden_size) * element;
  const int64_t mlp = (config.hidden_size + config.intermediate_size) * element;
  // A worker holds a piece of a product, or its tile of queries.
  const int64_t widest = std::max({config.hidden_size, config.intermediate_size, query});
  const int64_t slice = std::max(SliceOutputs(compute), config.head_dim);
  const int64_t piece = 2 * std::min(padded, TokensAtATime(compute)) * slice * kF32Bytes +
                        PreparedLinear::MultiplyBytes(compute, padded, widest);
  const AttentionShape shape = {config.num_attention_heads, config.num_key_value_heads,
                                config.head_dim, std::nullopt};
  const int64_t worker = std::max(piece, AttentionTaskBytes(shape));
  const int64_t rotary = padded * config.head_dim * kF32Bytes;
  return padded * (config.hidden_size * kF32Bytes + std::max(attention, mlp)) +
         concurrency * worker + rotary;
}

}  // namespace salient
