#include "server/workers/worker_pool.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/linalg/gemm.h"
#include "server/workers/shared_loop.h"

namespace salient {
namespace {

// Says what the current thread is to the pool it belongs to, if to any.
struct ThisWorker {
  const WorkerPool* pool = nullptr;
  bool in_short_task = false;  // Short work does not begin inside short work.
};
thread_local ThisWorker this_worker;

// To sleep and to be woken costs more than a small item. So who waits looks for a while whether
// it is over, and lets others have the processor meanwhile. Returns whether it was.
bool LookForAWhile(absl::FunctionRef<bool()> is_over) {
  constexpr auto kWhile = std::chrono::microseconds(30);
  const auto end = std::chrono::steady_clock::now() + kWhile;
  while (!is_over()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

WorkerPool::WorkerPool(int workers) {
  const int count = std::max(1, workers);
  busy_nanoseconds_ = std::make_unique<std::atomic<int64_t>[]>(count);
  threads_.reserve(count);
  for (int i = 0; i < count; ++i) threads_.emplace_back([this, i] { Work(i); });
}

WorkerPool::~WorkerPool() {
  {
    const MutexLock lock(mu_);
    stopping_ = true;
  }
  work_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::Submit(Lane lane, Task task) {
  {
    const MutexLock lock(mu_);
    (lane == Lane::kShort ? short_ : long_).push_back(std::move(task));
    (lane == Lane::kShort ? queued_short_ : queued_long_).fetch_add(1, std::memory_order_relaxed);
    arrivals_.fetch_add(1, std::memory_order_relaxed);
    if (sleeping_ == 0) return;
  }
  work_.NotifyOne();
}

// Wakes as many as can have an item. Those who are awake find it.
void WorkerPool::Add(Loop& loop, int64_t helpers) {
  loops_.push_back(&loop);
  open_loops_.fetch_add(1, std::memory_order_relaxed);
  arrivals_.fetch_add(1, std::memory_order_relaxed);
  for (int64_t i = std::min(helpers, sleeping_); i > 0; --i) work_.NotifyOne();
}

void WorkerPool::Remove(Loop& loop) {
  loops_.erase(std::find(loops_.begin(), loops_.end(), &loop));
  open_loops_.fetch_sub(1, std::memory_order_relaxed);
}

absl::Status WorkerPool::ForEach(const CancelToken& stop, int64_t count,
                                 absl::FunctionRef<absl::Status(int64_t)> task, StageTimes* busy) {
  const bool waits = this_worker.pool != this;
  StageClock& clock = StageClock::OfThisThread();
  if (busy == nullptr) busy = waits ? &busy_times_ : clock.times();
  Loop loop(stop, count, task, waits, busy);
  const bool shared = waits ? count > 0 : count > 1 && threads_.size() > 1;
  if (shared) {
    if (waits) waiting_callers_.fetch_add(1, std::memory_order_relaxed);
    const MutexLock lock(mu_);
    Add(loop, waits ? count : count - 1);
  }
  while (!waits && loop.RunOne()) {
    DoShortWork();
    HelpWaitingCaller();
  }
  if (waits && shared) {
    WaitUntilDone(loop);
    clock.Read();
    waiting_callers_.fetch_sub(1, std::memory_order_relaxed);
  } else if (shared) {
    MutexLock lock(mu_);
    Remove(loop);
    // Nobody joins any more; wait for those inside.
    clock.Read();
    while (loop.helpers != 0) loop.left.Wait(mu_);
    clock.Skip();
  }
  if (absl::Status stopped = stop.Check(); !stopped.ok()) return stopped;
  const MutexLock lock(loop.mu);
  return loop.error;
}

void WorkerPool::WaitUntilDone(Loop& loop) {
  // A stop tells nobody, so it is looked for.
  constexpr auto kStopCheckPeriod = std::chrono::milliseconds(50);
  LookForAWhile([&loop] { return loop.is_done.load(std::memory_order_relaxed); });
  MutexLock lock(mu_);
  while (loop.helpers != 0 || loop.HasItems()) loop.left.WaitFor(mu_, kStopCheckPeriod);
  Remove(loop);
}

// Between two items of a long task: jobs advance however many groups are queued.
void WorkerPool::HelpWaitingCaller() {
  if (this_worker.pool != this || this_worker.in_short_task) return;
  if (waiting_callers_.load(std::memory_order_relaxed) == 0) return;
  MutexLock lock(mu_);
  if (Loop* loop = JoinableLoop(/*of_waiting_callers=*/true); loop != nullptr) {
    Help(*loop, /*only_one=*/true);
  }
}

bool WorkerPool::NobodyElseWaits() const {
  return open_loops_.load(std::memory_order_relaxed) == 1 &&
         queued_short_.load(std::memory_order_relaxed) == 0 &&
         queued_long_.load(std::memory_order_relaxed) == 0;
}

// Runs one item, and further ones while there is nothing else to do.
void WorkerPool::Help(Loop& loop, bool only_one) {
  ++loop.helpers;
  mu_.Unlock();
  // A helper begins no short work inside an item, because the loop's caller waits for it.
  this_worker.in_short_task = true;
  while (loop.RunOne() && !only_one && NobodyElseWaits()) {
  }
  this_worker.in_short_task = false;
  mu_.Lock();
  // With the lock held: the loop is gone as soon as its caller sees that nobody is inside.
  if (--loop.helpers > 0 || loop.HasItems()) return;
  loop.is_done.store(true, std::memory_order_relaxed);
  loop.left.NotifyOne();
}

// Between two items of a long task: messages of other calls are not kept waiting.
void WorkerPool::DoShortWork() {
  if (this_worker.pool != this || this_worker.in_short_task) return;
  while (queued_short_.load(std::memory_order_relaxed) > 0) {
    Task task;
    {
      const MutexLock lock(mu_);
      if (short_.empty()) return;
      task = Pop(short_, queued_short_);
    }
    const StageClock::Scope scope(&busy_times_, Stage::kOther);
    this_worker.in_short_task = true;
    task();
    this_worker.in_short_task = false;
  }
}

WorkerPool::Task WorkerPool::Pop(std::deque<Task>& lane, std::atomic<int64_t>& queued) {
  Task task = std::move(lane.front());
  lane.pop_front();
  queued.fetch_sub(1, std::memory_order_relaxed);
  return task;
}

bool WorkerPool::HasWork() const {
  if (stopping_ || !short_.empty() || !long_.empty()) return true;
  return std::any_of(loops_.begin(), loops_.end(), [](const Loop* l) { return l->HasItems(); });
}

WorkerPool::Loop* WorkerPool::JoinableLoop(bool of_waiting_callers) {
  for (size_t i = 0; i < loops_.size(); ++i) {
    Loop* loop = loops_[next_loop_++ % loops_.size()];
    if (of_waiting_callers && !loop->caller_waits) continue;
    if (loop->HasItems()) return loop;
  }
  return nullptr;
}

void WorkerPool::WaitForWork() {
  if (HasWork()) return;
  const int64_t seen = arrivals_.load(std::memory_order_relaxed);
  mu_.Unlock();
  LookForAWhile([&] { return arrivals_.load(std::memory_order_relaxed) != seen; });
  mu_.Lock();
  ++sleeping_;
  while (!HasWork()) work_.Wait(mu_);
  --sleeping_;
}

void WorkerPool::Work(int index) {
  pthread_setname_np(pthread_self(), absl::StrCat("salient-", index).c_str());
  LimitThreadToItself();
  this_worker.pool = this;
  StageClock& clock = StageClock::OfThisThread();
  clock.Start(busy_times_, &busy_nanoseconds_[index]);

  MutexLock lock(mu_);
  while (true) {
    WaitForWork();
    clock.Skip();
    Task task;
    const bool is_short = !short_.empty();
    if (is_short) {
      task = Pop(short_, queued_short_);
    } else if (!long_.empty()) {
      task = Pop(long_, queued_long_);
    } else if (Loop* loop = JoinableLoop(/*of_waiting_callers=*/false); loop != nullptr) {
      Help(*loop, /*only_one=*/false);
      continue;
    } else if (stopping_) {
      return;
    } else {
      continue;
    }
    lock.Unlock();
    this_worker.in_short_task = is_short;
    task();
    this_worker.in_short_task = false;
    task = nullptr;  // It frees what it owns before the lock comes back.
    clock.Enter(Stage::kOther);
    lock.Lock();
  }
}

WorkerPool::Stats WorkerPool::GetStats() const {
  Stats stats;
  for (size_t i = 0; i < threads_.size(); ++i) {
    stats.busy_seconds.push_back(1e-9 * busy_nanoseconds_[i].load(std::memory_order_relaxed));
  }
  stats.stage_busy_seconds = busy_times_.Seconds();
  stats.stage_wall_seconds = wall_times_.Seconds();
  stats.queued_short = queued_short_.load(std::memory_order_relaxed);
  stats.queued_long = queued_long_.load(std::memory_order_relaxed);
  return stats;
}

PoolExecutor::PoolExecutor(WorkerPool& pool, const CancelToken& stop, IoThread* io)
    : pool_(pool),
      stop_(stop),
      io_(io),
      busy_(&pool.busy_times()),
      wall_(&pool.wall_times()),
      clocked_(!StageClock::OfThisThread().running()) {
  if (clocked_) StageClock::OfThisThread().Start(wall_);
}

PoolExecutor::~PoolExecutor() {
  if (clocked_) StageClock::OfThisThread().Stop();
}

}  // namespace salient
