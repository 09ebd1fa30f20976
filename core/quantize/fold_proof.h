// Proves of each group that folding its scale leaves a block what it was.
#ifndef SALIENT_CORE_QUANTIZE_FOLD_PROOF_H_
#define SALIENT_CORE_QUANTIZE_FOLD_PROOF_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/forward.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Above it a fold changes the model. What f32 rounds is a thousandth of it.
inline constexpr double kMostFoldError = 1e-3;

// This many tokens of a row are enough to see a wrong fold, and few enough to cost next to nothing.
inline constexpr int64_t kFoldProofTokens = 64;

// Compares a block whose weights are scaled and not rounded with what it was, on one row of hidden
// states, in f32. Borrows the model. It is for one thread.
class FoldProof {
 public:
  // Takes the first kFoldProofTokens of `row`, which enters the block.
  FoldProof(const Model& model, const Matrix& row);

  // Returns ||folded - original|| / ||original - row||, where `scales` multiply the columns of the
  // group's Linears and divide what is before them; 0 if both are 0. `block` is as it was read, and
  // is so again when this returns. Errors are those of BlockForward.
  absl::StatusOr<double> Difference(const GroupPlan& group, absl::Span<const float> scales,
                                    BlockWeights& block, Executor& executor);

  // Returns INTERNAL naming the group unless the difference is at most kMostFoldError.
  static absl::Status Check(const GroupPlan& group, double difference);

 private:
  absl::StatusOr<Matrix> Run(const BlockWeights& block, Executor& executor) const;

  BlockForward forward_;
  Matrix row_;
  std::optional<Matrix> original_;  // It is what leaves the block as it was.
};

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZE_FOLD_PROOF_H_
