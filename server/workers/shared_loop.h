// Describes a loop that workers share, for worker_pool.cc alone.
#ifndef SALIENT_SERVER_WORKERS_SHARED_LOOP_H_
#define SALIENT_SERVER_WORKERS_SHARED_LOOP_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/parallel/executor.h"
#include "core/parallel/mutex.h"
#include "server/workers/cancel_token.h"
#include "server/workers/stage_clock.h"
#include "server/workers/worker_pool.h"

namespace salient {

struct WorkerPool::Loop {
  Loop(const CancelToken& stop_token, int64_t items,
       absl::FunctionRef<absl::Status(int64_t)> function, bool waits, StageTimes* times)
      : stop(stop_token), count(items), task(function), caller_waits(waits), busy(times) {}

  const CancelToken& stop;
  const int64_t count;
  const absl::FunctionRef<absl::Status(int64_t)> task;
  const bool caller_waits;  // The caller is no worker.
  StageTimes* const busy;
  const Stage stage = StageClock::OfThisThread().stage();  // It is the caller's.
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  // The pool's mutex guards these: workers inside an item, and that the last of them left.
  int helpers = 0;
  ConditionVariable left;
  std::atomic<bool> is_done{false};  // The last left and there was nothing more.

  Mutex mu;
  int64_t error_index ABSL_GUARDED_BY(mu) = std::numeric_limits<int64_t>::max();
  absl::Status error ABSL_GUARDED_BY(mu);

  bool HasItems() const {
    return !failed.load(std::memory_order_acquire) && !stop.stopped() &&
           next.load(std::memory_order_relaxed) < count;
  }

  // Runs the next item, if there is one. Items are claimed in order and a claimed item always
  // runs, so when item f is the first that fails no item before it was skipped: the error with
  // the lowest index does not depend on the timing.
  bool RunOne() {
    if (!HasItems()) return false;
    const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
    if (index >= count) return false;
    absl::Status status = Run(index);
    if (!status.ok()) {
      const MutexLock lock(mu);
      failed.store(true, std::memory_order_release);
      if (index < error_index) {
        error_index = index;
        error = std::move(status);
      }
    }
    return true;
  }

 private:
  // Time at work is added after every item rather than after every task, so that a scrape in the
  // middle of a long task sees it.
  absl::Status Run(int64_t index) {
    const StageClock::Scope scope(busy, stage);
    return task(index);
  }
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_SHARED_LOOP_H_
