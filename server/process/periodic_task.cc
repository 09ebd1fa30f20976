#include "server/process/periodic_task.h"

#include <pthread.h>

#include <chrono>
#include <utility>

namespace salient {

PeriodicTask::PeriodicTask(absl::Duration period, absl::AnyInvocable<void()> task)
    : period_(period), task_(std::move(task)), thread_([this] { Run(); }) {}

PeriodicTask::~PeriodicTask() {
  {
    const MutexLock lock(mu_);
    stopping_ = true;
  }
  stop_.NotifyAll();
  thread_.join();
}

void PeriodicTask::Run() {
  pthread_setname_np(pthread_self(), "salient-house");
  MutexLock lock(mu_);
  while (true) {
    const auto end = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(period_);
    while (!stopping_ && stop_.WaitUntil(mu_, end)) {
    }
    if (stopping_) return;
    lock.Unlock();
    task_();
    lock.Lock();
  }
}

}  // namespace salient
