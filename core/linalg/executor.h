// The only way the core runs things in parallel: an executor handed in by the caller.
#ifndef SALIENT_CORE_LINALG_EXECUTOR_H_
#define SALIENT_CORE_LINALG_EXECUTOR_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace salient {

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

  // Threads that may run tasks at the same time, at least 1. A hint for cutting work; the
  // cut must not change results.
  virtual int Concurrency() const = 0;
};

// Runs everything on the calling thread, in order.
class SerialExecutor final : public Executor {
 public:
  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override;
  int Concurrency() const override { return 1; }
};

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_EXECUTOR_H_
