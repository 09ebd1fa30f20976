// Is an Executor of a few threads, for tests and benchmarks.
#ifndef SALIENT_TESTS_SUPPORT_THREAD_EXECUTOR_H_
#define SALIENT_TESTS_SUPPORT_THREAD_EXECUTOR_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/linalg/gemm.h"
#include "core/parallel/executor.h"

namespace salient::testing {

// One ForEach at a time; tasks must not call ForEach.
class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }

  ~ThreadExecutor() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override {
    std::unique_lock<std::mutex> lock(mutex_);
    if (cancelled_) return absl::CancelledError("cancelled by the test");
    task_ = &task;
    count_ = count;
    next_ = 0;
    failure_ = absl::OkStatus();
    work_.notify_all();
    done_.wait(lock, [this] { return running_ == 0 && next_ >= count_; });
    task_ = nullptr;
    if (failure_.ok() && cancelled_) return absl::CancelledError("cancelled by the test");
    return failure_;
  }

  int Concurrency() const override { return static_cast<int>(threads_.size()); }

  // From any thread, tasks included: no new task starts, now or later.
  void Cancel() {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    next_ = count_;
    if (running_ == 0) done_.notify_all();
  }

 private:
  void Work() {
    LimitThreadToItself();
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      work_.wait(lock, [this] { return stopping_ || (task_ != nullptr && next_ < count_); });
      if (stopping_) return;
      const int64_t index = next_++;
      const auto& task = *task_;
      ++running_;
      lock.unlock();
      absl::Status status = task(index);
      lock.lock();
      --running_;
      if (!status.ok()) {
        if (failure_.ok() || index < failed_index_) {
          failure_ = std::move(status);
          failed_index_ = index;
        }
        next_ = count_;
      }
      if (running_ == 0 && next_ >= count_) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  const absl::FunctionRef<absl::Status(int64_t)>* task_ = nullptr;
  int64_t count_ = 0;
  int64_t next_ = 0;
  int64_t running_ = 0;
  int64_t failed_index_ = 0;
  absl::Status failure_;
  bool cancelled_ = false;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_THREAD_EXECUTOR_H_
