#include "server/process/periodic_task.h"

#include <pthread.h>

#include <utility>

namespace salient {

PeriodicTask::PeriodicTask(absl::Duration period, absl::AnyInvocable<void()> task)
    : period_(period), task_(std::move(task)), thread_([this] { Run(); }) {}

PeriodicTask::~PeriodicTask() {
  {
    const std::lock_guard lock(mu_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void PeriodicTask::Run() {
  pthread_setname_np(pthread_self(), "salient-house");
  std::unique_lock lock(mu_);
  while (!stop_.wait_for(lock, absl::ToChronoMilliseconds(period_), [this] { return stopping_; })) {
    lock.unlock();
    task_();
    lock.lock();
  }
}

}  // namespace salient
