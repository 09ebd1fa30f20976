// Computes one decoder block on one calibration row.
//
//   x += o(attention(rope(q(n1(x))), rope(k(n1(x))), v(n1(x))))       n1 = input_layernorm
//   x += down(silu(gate(n2(x))) * up(n2(x)))                          n2 = post_attention_layernorm
//
// The formulas are those of Touvron et al., "LLaMA", arXiv:2302.13971.
#ifndef SALIENT_CORE_MODEL_BLOCKS_FORWARD_H_
#define SALIENT_CORE_MODEL_BLOCKS_FORWARD_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/rotary.h"
#include "core/model/model.h"
#include "core/model/prepared_block.h"
#include "core/model/rounded_inputs.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Receives what a group of Linears reads, exactly and before it is rounded for them: tokens() rows
// of features(), F32 or BF16, valid during the call. Called on the thread that runs the forward
// pass, outside of any task, in the order of BlockPlan::groups, which `group` is a place in.
using GroupObserver = absl::FunctionRef<absl::Status(size_t group, const Activations& input)>;

// Serves callers that want the result alone.
absl::Status IgnoreGroup(size_t group, const Activations& input);

// Computes x / sqrt(mean(x^2) + epsilon) * weight for each row of `hidden` [tokens, hidden_size],
// at the front of a matrix of PaddedTokens(tokens) rows, the rest 0.
absl::StatusOr<Matrix> RmsNorm(const Matrix& hidden, absl::Span<const float> weight, double epsilon,
                               Executor& executor);

// Is immutable and thread-safe. Products are those that `compute` says, except those of queries,
// keys and values among themselves: these, norms, softmax and the residual stream are f32 always.
// The input of a Linear is rounded first if it says so (StoredLinear::input).
class BlockForward {
 public:
  // Takes rows of up to `max_tokens` tokens.
  BlockForward(const Model& model, ComputeDType compute, int64_t max_tokens);

  const Model& model() const { return model_; }
  ComputeDType compute() const { return compute_; }

  // Returns what Run takes. Borrows `block`. Its errors are those of PreparedBlock::Create.
  absl::StatusOr<PreparedBlock> Prepare(const BlockWeights& block, Executor& executor) const;

  // Returns the residual stream leaving the block, from `hidden` [tokens, hidden_size] entering it.
  // `block` comes from Prepare. A row is computed at the shape its own length gives, so its result
  // is the same bits for any executor and whatever rows come before it.
  //
  // Errors: INVALID_ARGUMENT for no token or more than max_tokens, or other columns than
  // hidden_size; those of `observer` and of the executor.
  absl::StatusOr<Matrix> Run(const PreparedBlock& block, Matrix hidden, GroupObserver observer,
                             Executor& executor) const;

  // Returns the bytes that Run holds at most for a row, `hidden` included, weights not.
  static int64_t MemoryBytes(const BlockPlan& plan, ComputeDType compute, int64_t tokens,
                             int concurrency);

 private:
  // Adds what the mixer makes of `normed`, the input of its first group, to `hidden`.
  absl::Status Mix(const PreparedBlock& block, const AttentionPlan& attention, Activations normed,
                   GroupObserver observer, Matrix& hidden, Executor& executor) const;
  absl::Status Mix(const PreparedBlock& block, const GatedMlpPlan& mlp, Activations normed,
                   GroupObserver observer, Matrix& hidden, Executor& executor) const;
  absl::StatusOr<Activations> Norm(const Matrix& hidden, const StoredVector& weight, double epsilon,
                                   Executor& executor) const;
  absl::StatusOr<Activations> Attend(const PreparedBlock& block, const AttentionPlan& attention,
                                     RoundedInputs normed, Executor& executor) const;
  absl::StatusOr<Activations> Gate(const PreparedBlock& block, const GatedMlpPlan& mlp,
                                   const RoundedInputs& normed, Executor& executor) const;
  absl::Status AddProduct(const PreparedBlock& block, size_t index, Activations input,
                          Matrix& hidden, Executor& executor) const;

  const Model& model_;
  ComputeDType compute_;
  RotaryTable rotary_;
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_FORWARD_H_
