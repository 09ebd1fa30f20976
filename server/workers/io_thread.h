// Is a thread that waits for disks, so that nobody who computes does.
#ifndef SALIENT_SERVER_WORKERS_IO_THREAD_H_
#define SALIENT_SERVER_WORKERS_IO_THREAD_H_

#include <deque>
#include <memory>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "core/parallel/executor.h"
#include "core/parallel/mutex.h"
#include "server/workers/stage_clock.h"

namespace salient {

// Does one thing after the other, in the order in which they were started. It is thread-safe.
class IoThread {
 public:
  // What it does counts in `times`, which outlives it, as the stages it enters.
  explicit IoThread(StageTimes& times);
  // Ends the thread. All that was started must have been waited for or dropped.
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  // Starts as Executor::Start does.
  std::unique_ptr<Background> Start(absl::AnyInvocable<absl::Status()> work);

 private:
  class Task;

  void Work();

  StageTimes& times_;
  Mutex mu_;
  ConditionVariable begin_;                         // There is something to do.
  ConditionVariable ended_;                         // A task has ended.
  std::deque<Task*> waiting_ ABSL_GUARDED_BY(mu_);  // Who started them owns them.
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_IO_THREAD_H_
