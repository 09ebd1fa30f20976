#include "server/jobs/job_log.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <variant>

namespace salient {

// One watcher's wake. Outlives its View while a call of it runs.
class JobLog::Watcher {
 public:
  explicit Watcher(absl::AnyInvocable<void()> wake) : wake_(std::move(wake)) {}

  // One call at a time: whoever comes meanwhile leaves word, and the call is made again.
  void Wake() {
    MutexLock lock(mu_);
    again_ = true;
    if (running_) return;
    running_ = true;
    runner_ = std::this_thread::get_id();
    while (again_ && !closed_) {
      again_ = false;
      lock.Unlock();
      wake_();
      lock.Lock();
    }
    running_ = false;
    idle_.NotifyAll();
  }

  // No call runs afterwards, except one that this is called from.
  void Close() {
    MutexLock lock(mu_);
    closed_ = true;
    if (running_ && runner_ == std::this_thread::get_id()) return;
    while (running_) idle_.Wait(mu_);
  }

 private:
  Mutex mu_;
  ConditionVariable idle_;
  bool again_ ABSL_GUARDED_BY(mu_) = false;
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::thread::id runner_ ABSL_GUARDED_BY(mu_);
  absl::AnyInvocable<void()> wake_;  // Only the runner calls it.
};

class JobLog::View final : public JobWatch {
 public:
  View(std::shared_ptr<const JobLog> log, int64_t revision, std::shared_ptr<Watcher> watcher)
      : log_(std::move(log)), revision_(revision), watcher_(std::move(watcher)) {}
  ~View() override { watcher_->Close(); }

  Batch Take(int max_events) override { return log_->TakeAfter(revision_, max_events); }

 private:
  const std::shared_ptr<const JobLog> log_;
  int64_t revision_;
  const std::shared_ptr<Watcher> watcher_;
};

int64_t JobLog::Append(absl::Time now, decltype(JobEvent::what) what) {
  const MutexLock lock(mu_);
  ++revision_;
  if (std::holds_alternative<JobProgress>(what)) {
    events_.erase(progress_revision_);
    progress_revision_ = revision_;
  } else if (const auto* state = std::get_if<JobState>(&what); state != nullptr) {
    ended_ = ended_ || HasEnded(*state);
  }
  events_.emplace(revision_, JobEvent{revision_, now, std::move(what)});
  return revision_;
}

void JobLog::Wake() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    const MutexLock lock(mu_);
    for (const std::weak_ptr<Watcher>& weak : watchers_) {
      if (auto watcher = weak.lock(); watcher != nullptr) watchers.push_back(std::move(watcher));
    }
  }
  for (const std::shared_ptr<Watcher>& watcher : watchers) watcher->Wake();
}

int64_t JobLog::revision() const {
  const MutexLock lock(mu_);
  return revision_;
}

std::unique_ptr<JobWatch> JobLog::Watch(int64_t after_revision, absl::AnyInvocable<void()> wake) {
  auto watcher = std::make_shared<Watcher>(std::move(wake));
  const MutexLock lock(mu_);
  watchers_.erase(std::remove_if(watchers_.begin(), watchers_.end(),
                                 [](const auto& weak) { return weak.expired(); }),
                  watchers_.end());
  watchers_.push_back(watcher);
  return std::make_unique<View>(shared_from_this(), after_revision, std::move(watcher));
}

JobWatch::Batch JobLog::TakeAfter(int64_t& revision, int max_events) const {
  JobWatch::Batch batch;
  const MutexLock lock(mu_);
  auto next = events_.upper_bound(revision);
  for (; next != events_.end() && static_cast<int>(batch.events.size()) < max_events; ++next) {
    batch.events.push_back(next->second);
    revision = next->first;
  }
  batch.ended = ended_ && next == events_.end();
  return batch;
}

}  // namespace salient
