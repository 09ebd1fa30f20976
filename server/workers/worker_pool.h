// The threads that compute: one pool for the process, shared fairly by all calls.
#ifndef SALIENT_SERVER_WORKERS_WORKER_POOL_H_
#define SALIENT_SERVER_WORKERS_WORKER_POOL_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/parallel/executor.h"
#include "core/parallel/mutex.h"
#include "server/workers/cancel_token.h"
#include "server/workers/io_thread.h"
#include "server/workers/stage_clock.h"

namespace salient {

// Tasks come on two lanes. Short work (taking a message, folding a batch) goes first, and a worker
// inside the loops of a long task does short work between two of its items: however long the groups
// being quantized, messages are taken. Long work (quantizing a group) comes next. Workers with
// nothing to start join the loops of running tasks, item by item, over all loops in turn. A loop of
// a thread that is no worker (one that coordinates a job) is run by workers alone; those inside
// loops of their own give it an item between two of theirs.
//
// It is thread-safe. This room locks with the standard library's mutex: ThreadSanitizer sees it
// without suppressions, which it does not of a library that was not built for it.
class WorkerPool {
 public:
  enum class Lane { kShort, kLong };
  using Task = absl::AnyInvocable<void()>;

  // Is a snapshot taken without stopping anybody.
  struct Stats {
    std::vector<double> busy_seconds;  // They stand by worker.
    StageSeconds stage_busy_seconds;   // They are those of all workers.
    StageSeconds stage_wall_seconds;   // They are those of the threads that coordinate jobs.
    int64_t queued_short = 0;
    int64_t queued_long = 0;
  };

  // Starts `workers` >= 1 threads, each limited to one OpenMP thread. Values below 1 count as 1.
  explicit WorkerPool(int workers);

  // Runs every task that was submitted, then stops.
  ~WorkerPool();

  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Runs `task` some time later on a worker. Tasks of one lane start in order.
  void Submit(Lane lane, Task task);

  // Does as Executor::ForEach. A calling worker takes part, so that its loop advances even when
  // every other one is busy; any other thread waits: nobody computes but the workers. `stop` is
  // checked before each item.
  //
  // Items count as the stage that the caller is in, for `busy` (none: for what the caller counts).
  absl::Status ForEach(const CancelToken& stop, int64_t count,
                       absl::FunctionRef<absl::Status(int64_t)> task, StageTimes* busy = nullptr);

  // Returns the times of all work, by stage: of workers, and of threads that coordinate.
  StageTimes& busy_times() { return busy_times_; }
  StageTimes& wall_times() { return wall_times_; }

  int workers() const { return static_cast<int>(threads_.size()); }
  Stats GetStats() const;

 private:
  struct Loop;

  void Work(int index);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Loop* JoinableLoop(bool of_waiting_callers) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // These two let go of the lock meanwhile.
  void Help(Loop& loop, bool only_one) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WaitForWork() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Add(Loop& loop, int64_t helpers) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Remove(Loop& loop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static Task Pop(std::deque<Task>& lane, std::atomic<int64_t>& queued);
  bool NobodyElseWaits() const;
  void DoShortWork();
  void HelpWaitingCaller();
  void WaitUntilDone(Loop& loop);

  Mutex mu_;
  ConditionVariable work_;  // It tells that there may be work.
  std::deque<Task> short_ ABSL_GUARDED_BY(mu_);
  std::deque<Task> long_ ABSL_GUARDED_BY(mu_);
  std::vector<Loop*> loops_ ABSL_GUARDED_BY(mu_);  // They lie on the stacks of their callers.
  size_t next_loop_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t sleeping_ ABSL_GUARDED_BY(mu_) = 0;  // So many workers sleep.
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::atomic<int64_t> queued_short_{0};
  std::atomic<int64_t> queued_long_{0};
  std::atomic<int64_t> open_loops_{0};
  std::atomic<int64_t> waiting_callers_{0};
  std::atomic<int64_t> arrivals_{
      0};  // It counts tasks and loops, and changes when there may be work.
  std::unique_ptr<std::atomic<int64_t>[]> busy_nanoseconds_;  // They stand by worker.
  StageTimes busy_times_;
  StageTimes wall_times_;
  std::vector<std::thread> threads_;
};

// Is the pool as the core sees it, for the work of one call or job. What workers do for it counts
// by stage, and so does the time of the thread that made it and must destroy it, if that is no
// worker.
class PoolExecutor final : public Executor {
 public:
  // Borrows all. `io` does what is started; without it, who starts it.
  PoolExecutor(WorkerPool& pool, const CancelToken& stop, IoThread* io = nullptr);
  ~PoolExecutor() override;

  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override {
    return pool_.ForEach(stop_, count, task, &busy_);
  }
  Stage Enter(Stage stage) override { return StageClock::OfThisThread().Enter(stage); }
  std::unique_ptr<Background> Start(absl::AnyInvocable<absl::Status()> work) override {
    return io_ != nullptr ? io_->Start(std::move(work)) : Executor::Start(std::move(work));
  }
  int Concurrency() const override { return pool_.workers(); }

  const StageTimes& busy() const { return busy_; }
  const StageTimes& wall() const { return wall_; }

 private:
  WorkerPool& pool_;
  const CancelToken& stop_;
  IoThread* const io_;
  StageTimes busy_;
  StageTimes wall_;
  const bool clocked_;  // It started the clock of the thread that made it.
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_WORKER_POOL_H_
