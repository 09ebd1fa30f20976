// Runs a decoder block on rows of tokens side by side, each by one thread. In a narrow model the
// tasks of a row are too small to share; in a wide one they are not, and a row takes too long.
#ifndef SALIENT_CORE_MODEL_BLOCKS_SIDE_BY_SIDE_H_
#define SALIENT_CORE_MODEL_BLOCKS_SIDE_BY_SIDE_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/model/block_plan.h"
#include "core/parallel/executor.h"

namespace salient {

// Runs a row inside one task of another executor: alone, counted where that one counts. It is as
// thread-safe as the other's Enter.
class RowExecutor final : public Executor {
 public:
  explicit RowExecutor(Executor& executor) : executor_(executor) {}
  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override {
    return serial_.ForEach(count, task);
  }
  Stage Enter(Stage stage) override { return executor_.Enter(stage); }
  int Concurrency() const override { return 1; }

 private:
  Executor& executor_;
  SerialExecutor serial_;
};

// Returns the floating-point operations of a block's Linears on `tokens` tokens.
double LinearFlop(const BlockPlan& block, int64_t tokens);

// Returns whether rows run side by side. A row then keeps its thread from everything else, so its
// products of `flop` operations must be over in about a tenth of a second at 200 GFLOP/s; and all
// of them together hold `bytes`, which must be few.
bool RunsSideBySide(double flop, int64_t bytes, int concurrency);

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_BLOCKS_SIDE_BY_SIDE_H_
