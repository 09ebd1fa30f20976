// Computes one decoder block on one calibration row, as its plan says: for each sublayer in turn
//
//   x = after(x + multiplier * post_norm(mixer(norm(x))))
#ifndef SALIENT_CORE_MODEL_BLOCKS_FORWARD_H_
#define SALIENT_CORE_MODEL_BLOCKS_FORWARD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/rotary.h"
#include "core/model/group_observer.h"
#include "core/model/model.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

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
  static int64_t MemoryBytes(const Model& model, const BlockPlan& plan, ComputeDType compute,
                             int64_t tokens, int concurrency);

 private:
  // Returns the table of a rope for a row of `tokens` tokens. `made` owns it if it is no table that
  // all rows share.
  const RotaryTable& TableOf(size_t rope, int64_t tokens, std::unique_ptr<RotaryTable>& made) const;
  // Adds what the mixer makes of `input` to `sum`.
  absl::Status AddMixer(const PreparedBlock& block, const Sublayer& sublayer, Activations input,
                        GroupObserver observer, Matrix& sum, Executor& executor) const;
  absl::Status RunSublayer(const PreparedBlock& block, const Sublayer& sublayer,
                           GroupObserver observer, Matrix& hidden, Executor& executor) const;

  const Model& model_;
  ComputeDType compute_;
  int64_t positions_;
  std::vector<RotaryTable> tables_;  // They stand by rope, for rows whose length changes nothing.
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_FORWARD_H_
