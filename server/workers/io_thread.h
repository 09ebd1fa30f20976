// A thread that waits for disks, so that nobody who computes does.
#ifndef SALIENT_SERVER_WORKERS_IO_THREAD_H_
#define SALIENT_SERVER_WORKERS_IO_THREAD_H_

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "core/parallel/executor.h"
#include "server/workers/stage_clock.h"

namespace salient {

// Does one thing after the other, in the order in which they were started. Thread-safe.
class IoThread {
 public:
  // What it does counts in `times`, which outlives it, as the stages it enters.
  explicit IoThread(StageTimes& times);
  ~IoThread();  // after all that was started was waited for or dropped
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  // Starts as Executor::Start does.
  std::unique_ptr<Background> Start(absl::AnyInvocable<absl::Status()> work);

 private:
  class Task;

  void Work();

  StageTimes& times_;
  std::mutex mu_;                  // of all below, and of what tasks say of themselves
  std::condition_variable begin_;  // there is something to do
  std::condition_variable ended_;  // a task has ended
  std::deque<Task*> waiting_;      // owned by who started them
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_IO_THREAD_H_
