#include "core/model/blocks/forward.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "core/kernels/forward_kernels.h"
#include "core/model/blocks/attention.h"
#include "core/parallel/tiles.h"

namespace salient {
namespace {

AttentionShape ShapeOf(const AttentionPlan& attention) {
  return {attention.heads, attention.kv_heads, attention.head_dim, attention.window};
}

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

absl::Status IgnoreGroup(size_t /*group*/, const Activations& /*input*/) {
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

BlockForward::BlockForward(const Model& model, ComputeDType compute, int64_t max_tokens)
    : model_(model), compute_(compute), rotary_(model.config, PaddedTokens(max_tokens)) {}

absl::StatusOr<PreparedBlock> BlockForward::Prepare(const BlockWeights& block,
                                                    Executor& executor) const {
  const BlockPlan& plan = model_.blocks[static_cast<size_t>(block.layer)];
  return PreparedBlock::Create(plan, block, compute_, executor);
}

absl::StatusOr<Activations> BlockForward::Norm(const Matrix& hidden, const StoredVector& weight,
                                               double epsilon, Executor& executor) const {
  Activations normed(compute_, hidden.rows(), hidden.cols());
  const absl::Status status = ForEachRow(
      hidden.rows(),
      [&](int64_t t) {
        normed.Fill(t, 0, [&](auto* out) {
          NormalizeRow(hidden.Row(t), weight.values.data(), hidden.cols(), epsilon, out);
        });
      },
      executor);
  if (!status.ok()) return status;
  return normed;
}

absl::StatusOr<Activations> BlockForward::Attend(const PreparedBlock& block,
                                                 const AttentionPlan& attention,
                                                 RoundedInputs normed, Executor& executor) const {
  struct Part {
    const PreparedLinear* linear;
    const Activations* input;
    int64_t heads;
    bool turned;
    Matrix out;
  };
  const auto part_of = [&](size_t linear, int64_t heads, bool turned) {
    return Part{&block.linear(linear), &normed.Of(linear), heads, turned, Matrix()};
  };
  std::array<Part, 3> parts = {part_of(attention.query, attention.heads, true),
                               part_of(attention.key, attention.kv_heads, true),
                               part_of(attention.value, attention.kv_heads, false)};
  int64_t slices = 0;
  for (Part& part : parts) {
    part.out = Matrix::Unset(normed.padded_tokens(), part.heads * attention.head_dim);
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
      if (part->turned) rotary_.Turn(first_token + t, count / attention.head_dim, out.Row(t));
      std::copy_n(out.Row(t), count, part->out.Row(first_token + t) + outputs.First(slice));
    }
    return status;
  };
  const int64_t tokens = normed.tokens();
  const absl::Status status =
      ForEachPiece(slices, normed.padded_tokens(), compute_, project, executor);
  if (!status.ok()) return status;
  { const RoundedInputs done = std::move(normed); }
  return CausalAttention(parts[0].out, parts[1].out, parts[2].out, tokens, ShapeOf(attention),
                         compute_, executor);
}

absl::StatusOr<Activations> BlockForward::Gate(const PreparedBlock& block, const GatedMlpPlan& mlp,
                                               const RoundedInputs& normed,
                                               Executor& executor) const {
  const PreparedLinear& gate = block.linear(mlp.gate);
  const PreparedLinear& up = block.linear(mlp.up);
  const Activations& gate_input = normed.Of(mlp.gate);
  const Activations& up_input = normed.Of(mlp.up);
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
absl::Status BlockForward::AddProduct(const PreparedBlock& block, size_t index, Activations input,
                                      Matrix& hidden, Executor& executor) const {
  const PreparedLinear& linear = block.linear(index);
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

absl::Status BlockForward::Mix(const PreparedBlock& block, const AttentionPlan& attention,
                               Activations normed, GroupObserver observer, Matrix& hidden,
                               Executor& executor) const {
  absl::Status status = observer(attention.input_group, normed);
  if (!status.ok()) return status;
  auto inputs = RoundedInputs::Create(block, block.plan().groups[attention.input_group].linears,
                                      std::move(normed), executor);
  if (!inputs.ok()) return inputs.status();
  auto context = Attend(block, attention, *std::move(inputs), executor);
  if (!context.ok()) return context.status();
  status = observer(attention.output_group, *context);
  if (!status.ok()) return status;
  return AddProduct(block, attention.output, *std::move(context), hidden, executor);
}

absl::Status BlockForward::Mix(const PreparedBlock& block, const GatedMlpPlan& mlp,
                               Activations normed, GroupObserver observer, Matrix& hidden,
                               Executor& executor) const {
  absl::Status status = observer(mlp.input_group, normed);
  if (!status.ok()) return status;
  auto inputs = RoundedInputs::Create(block, block.plan().groups[mlp.input_group].linears,
                                      std::move(normed), executor);
  if (!inputs.ok()) return inputs.status();
  auto inner = Gate(block, mlp, *inputs, executor);
  if (!inner.ok()) return inner.status();
  status = observer(mlp.output_group, *inner);
  if (!status.ok()) return status;
  return AddProduct(block, mlp.down, *std::move(inner), hidden, executor);
}

absl::StatusOr<Matrix> BlockForward::Run(const PreparedBlock& block, Matrix hidden,
                                         GroupObserver observer, Executor& executor) const {
  const int64_t tokens = hidden.rows();
  const int64_t width = model_.config.hidden_size;
  if (tokens < 1 || tokens > rotary_.positions() || hidden.cols() != width) {
    return absl::InvalidArgumentError(absl::StrCat("hidden states are [", tokens, ", ",
                                                   hidden.cols(), "]; expected [1 to ",
                                                   rotary_.positions(), ", ", width, "]"));
  }
  for (const Sublayer& sublayer : block.plan().sublayers) {
    auto normed = Norm(hidden, block.vector(sublayer.norm.weight), sublayer.norm.epsilon, executor);
    if (!normed.ok()) return normed.status();
    const absl::Status status = std::visit(
        [&](const auto& mixer) {
          return Mix(block, mixer, *std::move(normed), observer, hidden, executor);
        },
        sublayer.mixer);
    if (!status.ok()) return status;
  }
  return hidden;
}

namespace {

constexpr auto kF32Bytes = static_cast<int64_t>(sizeof(float));

// Returns the bytes a token that a mixer holds beside the residual stream, at most. An element of
// activations has `element` bytes.
int64_t TokenBytes(const BlockPlan& plan, const AttentionPlan& attention, int64_t element) {
  const int64_t hidden = plan.InputsOf(plan.groups[attention.input_group]);
  const int64_t query = attention.heads * attention.head_dim;
  const int64_t key = attention.kv_heads * attention.head_dim;
  // What the queries were made of is gone when attention gives its own.
  return (query + 2 * key) * kF32Bytes + std::max(query, hidden) * element;
}
int64_t TokenBytes(const BlockPlan& plan, const GatedMlpPlan& mlp, int64_t element) {
  return (plan.InputsOf(plan.groups[mlp.input_group]) +
          plan.InputsOf(plan.groups[mlp.output_group])) *
         element;
}

// Returns the bytes that a worker's task of a mixer holds beside products, and those of its tables.
int64_t TaskBytes(const AttentionPlan& attention) { return AttentionTaskBytes(ShapeOf(attention)); }
int64_t TaskBytes(const GatedMlpPlan& /*mlp*/) { return 0; }
int64_t TableBytes(const AttentionPlan& attention, int64_t padded) {
  return padded * attention.head_dim * kF32Bytes;
}
int64_t TableBytes(const GatedMlpPlan& /*mlp*/, int64_t /*padded*/) { return 0; }

}  // namespace

int64_t BlockForward::MemoryBytes(const BlockPlan& plan, ComputeDType compute, int64_t tokens,
                                  int concurrency) {
  const int64_t padded = PaddedTokens(tokens);
  const int64_t element = compute == ComputeDType::kBF16 ? 2 : kF32Bytes;
  const int64_t hidden = plan.InputsOf(plan.groups.front());
  int64_t widest = 0;
  int64_t slice = SliceOutputs(compute);
  for (const LinearPlan& linear : plan.linears) {
    widest = std::max(widest, linear.shape.in_features);
    slice = std::max(slice, linear.unit);
  }
  // A worker has a piece of a product, or a task of a mixer.
  int64_t worker = 2 * std::min(padded, TokensAtATime(compute)) * slice * kF32Bytes +
                   PreparedLinear::MultiplyBytes(compute, padded, widest);
  int64_t token = 0;
  int64_t table = 0;
  for (const Sublayer& sublayer : plan.sublayers) {
    std::visit(
        [&](const auto& mixer) {
          token = std::max(token, TokenBytes(plan, mixer, element));
          worker = std::max(worker, TaskBytes(mixer));
          table = std::max(table, TableBytes(mixer, padded));
        },
        sublayer.mixer);
  }
  return padded * (hidden * kF32Bytes + token) + concurrency * worker + table;
}

}  // namespace salient
