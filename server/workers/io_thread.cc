#include "server/workers/io_thread.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "core/linalg/gemm.h"

namespace salient {

class IoThread::Task final : public Background {
 public:
  Task(IoThread& io, absl::AnyInvocable<absl::Status()> work) : io_(io), work_(std::move(work)) {}

  ~Task() override {
    MutexLock lock(io_.mu_);
    const auto waiting = std::find(io_.waiting_.begin(), io_.waiting_.end(), this);
    if (waiting != io_.waiting_.end()) {
      io_.waiting_.erase(waiting);
    } else {
      while (!has_ended_) io_.ended_.Wait(io_.mu_);
    }
  }

  absl::Status Wait() override {
    MutexLock lock(io_.mu_);
    while (!has_ended_) io_.ended_.Wait(io_.mu_);
    return std::move(status_);
  }

 private:
  friend class IoThread;
  // It may be gone when this returns: whoever waits for it goes on.
  void End(absl::Status status) {
    const MutexLock lock(io_.mu_);
    status_ = std::move(status);
    has_ended_ = true;
    io_.ended_.NotifyAll();
  }

  IoThread& io_;
  absl::AnyInvocable<absl::Status()> work_;
  bool has_ended_ ABSL_GUARDED_BY(io_.mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(io_.mu_);
};

IoThread::IoThread(StageTimes& times) : times_(times) {
  thread_ = std::thread([this] { Work(); });
}

IoThread::~IoThread() {
  {
    const MutexLock lock(mu_);
    stopping_ = true;
  }
  begin_.NotifyOne();
  thread_.join();
}

std::unique_ptr<Background> IoThread::Start(absl::AnyInvocable<absl::Status()> work) {
  auto task = std::make_unique<Task>(*this, std::move(work));
  {
    const MutexLock lock(mu_);
    waiting_.push_back(task.get());
  }
  begin_.NotifyOne();
  return task;
}

void IoThread::Work() {
  pthread_setname_np(pthread_self(), "salient-io");
  LimitThreadToItself();
  StageClock& clock = StageClock::OfThisThread();
  MutexLock lock(mu_);
  while (true) {
    while (!stopping_ && waiting_.empty()) begin_.Wait(mu_);
    if (waiting_.empty()) return;
    Task& task = *waiting_.front();
    waiting_.pop_front();
    lock.Unlock();
    clock.Start(times_);
    absl::Status status = task.work_();
    task.work_ = nullptr;  // It frees what it owns before it counts as ended.
    clock.Stop();
    task.End(std::move(status));
    lock.Lock();
  }
}

}  // namespace salient
