// Housekeeping: a thread that does something now and then.
#ifndef SALIENT_SERVER_PROCESS_PERIODIC_TASK_H_
#define SALIENT_SERVER_PROCESS_PERIODIC_TASK_H_

#include <thread>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "core/parallel/mutex.h"

namespace salient {

class PeriodicTask {
 public:
  // Runs `task`, which may block, every `period` on a thread of its own; first after one period.
  PeriodicTask(absl::Duration period, absl::AnyInvocable<void()> task);

  // Waits for a run that is under way.
  ~PeriodicTask();

  PeriodicTask(const PeriodicTask&) = delete;
  PeriodicTask& operator=(const PeriodicTask&) = delete;

 private:
  void Run();

  const absl::Duration period_;
  absl::AnyInvocable<void()> task_;
  Mutex mu_;
  ConditionVariable stop_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // It stands last, because it uses the others.
};

}  // namespace salient

#endif  // SALIENT_SERVER_PROCESS_PERIODIC_TASK_H_
