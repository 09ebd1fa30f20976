#include "server/workers/bounded_lane.h"

#include <pthread.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/linalg/gemm.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

constexpr absl::Duration kRetryWhenBusy = absl::Seconds(1);

}  // namespace

BoundedLane::BoundedLane(const std::string& name, Limits limits)
    : limits_(limits), thread_([this, name] { Work(name); }) {}

BoundedLane::~BoundedLane() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
  }
  begin_.notify_one();
  thread_.join();
}

absl::Status BoundedLane::Submit(Task task, int64_t bytes) {
  int64_t tasks = 0;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    tasks = static_cast<int64_t>(waiting_.size());
    const bool has_room =
        tasks < limits_.tasks && (tasks == 0 || bytes <= limits_.bytes - waiting_bytes_);
    if (has_room) {
      waiting_.push_back({std::move(task), bytes});
      waiting_bytes_ += bytes;
      begin_.notify_one();
      return absl::OkStatus();
    }
  }
  return WithQuota(WithRetryAfter(CallError(absl::StatusCode::kResourceExhausted, Reason::kBusy,
                                            absl::StrCat(tasks, " calls wait, as many as may")),
                                  kRetryWhenBusy),
                   "waiting_calls");
}

void BoundedLane::Continue(Task task) {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    waiting_.push_back({std::move(task), 0});
  }
  begin_.notify_one();
}

int64_t BoundedLane::waiting() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return static_cast<int64_t>(waiting_.size());
}

void BoundedLane::Work(const std::string& name) {
  pthread_setname_np(pthread_self(), name.c_str());
  LimitThreadToItself();
  std::unique_lock<std::mutex> lock(mu_);
  while (true) {
    begin_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Task task = std::move(waiting_.front().task);
    waiting_bytes_ -= waiting_.front().bytes;
    waiting_.pop_front();
    lock.unlock();
    task();
    task = nullptr;  // It frees what it owns before the lock comes back.
    lock.lock();
  }
}

}  // namespace salient
