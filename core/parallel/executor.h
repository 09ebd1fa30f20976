// Is the only way the core runs things in parallel: an executor handed in by the caller.
#ifndef SALIENT_CORE_PARALLEL_EXECUTOR_H_
#define SALIENT_CORE_PARALLEL_EXECUTOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace salient {

// Names what a run spends its time on. Executors that measure tell these apart.
enum class Stage {
  kOther,
  kRead,         // Weights come from the checkpoint and are laid out for products.
  kForward,      // Calibration rows go through a block.
  kStatistics,   // What groups read is folded.
  kScaleSearch,  // Candidates and their losses are computed.
  kRange,        // Ranges are clipped.
  kRounding,     // Codes are found, curvature included.
  kLoss,         // The result is compared with round-to-nearest.
  kPack,         // Codes become the words of a format.
  kWrite,        // Tensors go to the sink.
};
inline constexpr size_t kStages = 10;

// Is something under way beside what its starter does. It is not thread-safe.
class Background {
 public:
  // Ends it: what has not begun never begins; what has begun is waited for.
  virtual ~Background() = default;
  // Returns what the work returned, when it has ended. It is called once.
  virtual absl::Status Wait() = 0;
};

// Implementations are safe to call from the thread that runs the work, and may run tasks on
// other threads, each of which has been limited to one OpenMP thread.
class Executor {
 public:
  virtual ~Executor() = default;

  // Runs task(0) .. task(count - 1), in any order and on any thread, and returns when all
  // that were started have ended. After the first failure or once the work was cancelled no
  // new task starts. Returns the error of the failed task with the lowest index, CANCELLED
  // (or DEADLINE_EXCEEDED) if the work was stopped from outside, else OK.
  //
  // Tasks must not depend on each other. Results are independent of the number of threads
  // when each task writes only its own slots and reductions happen after the call.
  virtual absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) = 0;

  // Lets what the calling thread does from now on, and the loops it starts, count as `stage`.
  // Returns what they counted as before. See StageScope.
  virtual Stage Enter(Stage /*stage*/) { return Stage::kOther; }

  // Does `work`, which waits for a disk rather than computes: on a thread for that, in order with
  // what was started before; without one, now.
  virtual std::unique_ptr<Background> Start(absl::AnyInvocable<absl::Status()> work);

  // Returns how many threads may run tasks at the same time, at least 1. It is a hint for cutting
  // work; the cut must not change results.
  virtual int Concurrency() const = 0;
};

// Counts what its scope does as one stage.
class StageScope {
 public:
  StageScope(Executor& executor, Stage stage)
      : executor_(executor), before_(executor.Enter(stage)) {}
  ~StageScope() { executor_.Enter(before_); }
  StageScope(const StageScope&) = delete;
  StageScope& operator=(const StageScope&) = delete;

 private:
  Executor& executor_;
  Stage before_;
};

// Runs everything on the calling thread, in order.
class SerialExecutor final : public Executor {
 public:
  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override;
  int Concurrency() const override { return 1; }
};

}  // namespace salient

#endif  // SALIENT_CORE_PARALLEL_EXECUTOR_H_
