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
    std::unique_lock<std::mutex> lock(io_.mu_);
    const auto waiting = std::find(io_.waiting_.begin(), io_.waiting_.end(), this);
    if (waiting != io_.waiting_.end()) {
      io_.waiting_.erase(waiting);
    } else {
      io_.ended_.wait(lock, [this] { return has_ended_; });
    }
  }

  absl::Status Wait() override {
    std::unique_lock<std::mutex> lock(io_.mu_);
    io_.ended_.wait(lock, [this] { return has_ended_; });
    return std::move(status_);
  }

 private:
  friend class IoThread;
  IoThread& io_;
  absl::AnyInvocable<absl::Status()> work_;
  // The thread's mutex guards it.
  bool has_ended_ = false;
  absl::Status status_;
};

IoThread::IoThread(StageTimes& times) : times_(times) {
  thread_ = std::thread([this] { Work(); });
}

IoThread::~IoThread() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
  }
  begin_.notify_one();
  thread_.join();
}

std::unique_ptr<Background> IoThread::Start(absl::AnyInvocable<absl::Status()> work) {
  auto task = std::make_unique<Task>(*this, std::move(work));
  {
    const std::lock_guard<std::mutex> lock(mu_);
    waiting_.push_back(task.get());
  }
  begin_.notify_one();
  return task;
}

void IoThread::Work() {
  pthread_setname_np(pthread_self(), "salient-io");
  LimitThreadToItself();
  StageClock& clock = StageClock::OfThisThread();
  std::unique_lock<std::mutex> lock(mu_);
  while (true) {
    begin_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Task& task = *waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    clock.Start(times_);
    absl::Status status = task.work_();
    task.work_ = nullptr;  // It frees what it owns before it counts as ended.
    clock.Stop();
    lock.lock();
    task.status_ = std::move(status);
    task.has_ended_ = true;
    ended_.notify_all();
  }
}

}  // namespace salient
