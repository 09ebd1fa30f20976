// The calls that are active: admits them, watches their clocks, ends them when the server stops.
#ifndef SALIENT_SERVER_CALLS_CALL_REGISTRY_H_
#define SALIENT_SERVER_CALLS_CALL_REGISTRY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/parallel/mutex.h"
#include "server/calls/call_limits.h"
#include "server/calls/tensor_call.h"
#include "server/workers/memory_budget.h"
#include "server/workers/worker_pool.h"

namespace salient {

// Is thread-safe. It owns the worker pool and the memory of all calls, and must outlive every
// transport of its calls.
class CallRegistry {
 public:
  struct Settings {
    int workers = 1;
    int max_active_calls = 64;
    int64_t memory_bytes = int64_t{8} << 30;  // All calls together may have it.
    CallLimits call;
  };

  struct Stats {
    int64_t active_calls = 0;
    int64_t tokens_folded = 0;
    int64_t groups_quantized = 0;
    int64_t parameters_quantized = 0;
    int64_t memory_reserved_bytes = 0;
    int64_t memory_limit_bytes = 0;
    WorkerPool::Stats pool;
  };

  explicit CallRegistry(const Settings& settings);

  // Cancels what is still active and waits for the workers.
  ~CallRegistry();

  // Admits a call; the caller then calls Start. Returns RESOURCE_EXHAUSTED, BUSY, with a retry
  // delay if too many calls are active; UNAVAILABLE, DRAINING, after Drain.
  absl::StatusOr<std::shared_ptr<TensorCall>> Open(std::shared_ptr<CallTransport> transport);

  // Admits nothing from now on.
  void Drain();

  // Waits until no call is active. False if that took longer than `timeout`.
  bool WaitUntilIdle(absl::Duration timeout);

  // Ends all active calls: UNAVAILABLE, DRAINING.
  void EndAll();

  const Settings& settings() const { return settings_; }

  // Returns the pool for other work of the server: a task submitted here is done before the
  // registry is gone.
  WorkerPool& pool() { return pool_; }

  // Takes only short locks that no computation holds.
  Stats GetStats() const;

 private:
  void Watch();
  void Closed(int64_t id);
  std::vector<std::shared_ptr<TensorCall>> Active() const;

  const Settings settings_;
  MemoryBudget memory_;
  CallCounters counters_;
  mutable Mutex mu_;
  ConditionVariable changed_;
  std::map<int64_t, std::weak_ptr<TensorCall>> active_ ABSL_GUARDED_BY(mu_);
  int64_t next_id_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  WorkerPool pool_;  // It goes before what its tasks use.
  std::thread watch_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_CALL_REGISTRY_H_
