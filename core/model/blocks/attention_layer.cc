#include "core/model/blocks/attention_layer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "core/kernels/forward_kernels.h"
#include "core/model/activations.h"
#include "core/model/blocks/attention.h"
#include "core/model/blocks/norm.h"
#include "core/model/blocks/products.h"
#include "core/model/projection.h"
#include "core/model/rounded_inputs.h"
#include "core/parallel/tiles.h"

namespace salient {
namespace {

AttentionShape ShapeOf(const AttentionPlan& attention) {
  return {attention.heads,  attention.kv_heads, attention.head_dim,
          attention.window, attention.scale,    attention.soft_cap};
}

// Holds queries, keys or values.
struct Heads {
  const PreparedLinear* linear;
  const Activations* input;
  int64_t count;
  const RotaryTable* rope;  // It is nullptr if they are not turned.
  bool are_queries;
  std::optional<Norm> norm;
  Matrix out;
};

class Projections {
 public:
  Projections(const PreparedBlock& block, const AttentionPlan& attention, const RotaryTable* rope,
              const RoundedInputs& input)
      : attention_(attention),
        parts_{Part(block, attention.query, attention.heads, rope, attention.query_norm, input),
               Part(block, attention.key, attention.kv_heads, rope, attention.key_norm, input),
               Part(block, attention.value, attention.kv_heads, nullptr, std::nullopt, input)} {
    parts_[0].are_queries = true;
    for (Heads& part : parts_) {
      part.out = Matrix::Unset(input.padded_tokens(), part.count * attention.head_dim);
    }
  }

  absl::Status Run(const PreparedBlock& block, int64_t padded_tokens, Executor& executor) {
    int64_t slices = 0;
    for (const Heads& part : parts_) slices += part.linear->Slices().size();
    const absl::Status status = ForEachPiece(
        slices, padded_tokens, block.compute(),
        [&](int64_t slice, int64_t first_token, int64_t tokens) {
          Heads* part = parts_.data();
          for (; slice >= part->linear->Slices().size(); ++part) {
            slice -= part->linear->Slices().size();
          }
          return Multiply(*part, slice, first_token, tokens);
        },
        executor);
    if (!status.ok() || !attention_.norms_whole_row) return status;
    return ForEachRow(
        padded_tokens,
        [&](int64_t t) {
          for (Heads& part : parts_) {
            if (part.norm.has_value()) part.norm->Row(part.out.Row(t), part.out.Row(t));
            Turn(part, t, part.count, part.out.Row(t));
          }
        },
        executor);
  }

  const Matrix& queries() const { return parts_[0].out; }
  const Matrix& keys() const { return parts_[1].out; }
  const Matrix& values() const { return parts_[2].out; }

 private:
  static Heads Part(const PreparedBlock& block, size_t projection, int64_t count,
                    const RotaryTable* rope, const std::optional<size_t>& norm,
                    const RoundedInputs& input) {
    const size_t linear = block.plan().projections[projection].linear;
    Heads part{&block.projection(projection),
               &input.Of(linear),
               count,
               rope,
               false,
               std::nullopt,
               Matrix()};
    if (norm.has_value()) {
      part.norm.emplace(block.plan().norms[*norm].rule, block.norm_weight(*norm),
                        block.norm_bias(*norm));
    }
    return part;
  }

  static void Turn(const Heads& part, int64_t token, int64_t heads, float* values) {
    if (part.rope == nullptr) return;
    part.rope->Turn(token, heads, values);
    if (part.are_queries) part.rope->ScaleQueries(token, heads, values);
  }

  absl::Status Multiply(Heads& part, int64_t slice, int64_t first_token, int64_t tokens) {
    const RowTiles outputs = part.linear->Slices();
    const int64_t count = outputs.Count(slice);
    const int64_t head_dim = attention_.head_dim;
    Matrix out = Matrix::Unset(tokens, count);
    absl::Status status =
        part.linear->Multiply(*part.input, first_token, tokens, slice, out.data());
    if (!status.ok()) return status;
    for (int64_t t = 0; t < tokens; ++t) {
      // A norm of whole rows waits for all slices, and so does what follows it.
      if (!attention_.norms_whole_row) {
        for (int64_t i = 0; part.norm.has_value() && i < count; i += head_dim) {
          part.norm->Row(out.Row(t) + i, out.Row(t) + i);
        }
        Turn(part, first_token + t, count / head_dim, out.Row(t));
      }
      std::copy_n(out.Row(t), count, part.out.Row(first_token + t) + outputs.First(slice));
    }
    return status;
  }

  const AttentionPlan& attention_;
  std::array<Heads, 3> parts_;
};

absl::StatusOr<Activations> Attend(const PreparedBlock& block, const AttentionPlan& attention,
                                   const RotaryTable* rope, RoundedInputs input,
                                   Executor& executor) {
  const int64_t tokens = input.tokens();
  Projections projections(block, attention, rope, input);
  const absl::Status status = projections.Run(block, input.padded_tokens(), executor);
  if (!status.ok()) return status;
  { const RoundedInputs done = std::move(input); }
  return CausalAttention(projections.queries(), projections.keys(), projections.values(), tokens,
                         ShapeOf(attention), block.compute(), executor);
}

}  // namespace

absl::Status AddAttention(const PreparedBlock& block, const AttentionPlan& attention,
                          const RotaryTable* rope, Activations normed, GroupObserver observer,
                          Matrix& sum, Executor& executor) {
  absl::Status status = observer(attention.input_group, normed);
  if (!status.ok()) return status;
  auto input = RoundedInputs::Create(block, block.plan().groups[attention.input_group].linears,
                                     std::move(normed), executor);
  if (!input.ok()) return input.status();
  auto context = Attend(block, attention, rope, *std::move(input), executor);
  if (!context.ok()) return context.status();
  status = observer(attention.output_group, *context);
  if (!status.ok()) return status;
  return AddProduct(block, attention.output, *std::move(context), sum, executor);
}

int64_t TokenBytes(const BlockPlan& plan, const AttentionPlan& attention, int64_t element) {
  const int64_t hidden = plan.InputsOf(plan.groups[attention.input_group]);
  const int64_t query = attention.heads * attention.head_dim;
  const int64_t key = attention.kv_heads * attention.head_dim;
  // What the queries were made of is gone when attention gives its own.
  return (query + 2 * key) * static_cast<int64_t>(sizeof(float)) +
         std::max(query, hidden) * element;
}

int64_t TaskBytes(const AttentionPlan& attention) { return AttentionTaskBytes(ShapeOf(attention)); }

}  // namespace salient
