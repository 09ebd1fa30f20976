// Tells how far a job is and how long it will take, told at a bearable pace.
#ifndef SALIENT_SERVER_JOBS_JOB_PROGRESS_H_
#define SALIENT_SERVER_JOBS_JOB_PROGRESS_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "core/parallel/mutex.h"
#include "server/jobs/job.h"

namespace salient {

// Hears what a running job has to say. It is thread-safe.
class JobObserver {
 public:
  virtual ~JobObserver() = default;
  virtual void Happened(decltype(JobEvent::what) what) = 0;
  // Tells that more tokens went through a block, and more weights were quantized.
  virtual void Computed(int64_t tokens, int64_t parameters) = 0;
  // Tells the share that is done, 0 to 1.
  virtual void Advanced(double share) = 0;
};

// Tells an observer of progress at a bearable pace. It is thread-safe.
class JobProgressReporter {
 public:
  static constexpr absl::Duration kPeriod = absl::Milliseconds(250);

  // `waited` is the time spent waiting for bytes, which says nothing about speed.
  JobProgressReporter(JobObserver& observer, absl::AnyInvocable<absl::Duration()> waited,
                      double estimated_seconds)
      : observer_(observer), waited_(std::move(waited)), estimated_seconds_(estimated_seconds) {}

  // Begins work: in each of `blocks`, so many tokens are run and so many weights quantized. What
  // comes after them, with a Begin of its own, takes `share_after` of the estimated time.
  void Begin(JobProgress::Stage stage, int64_t blocks, int64_t tokens_a_block,
             int64_t parameters_a_block, double share_after = 0);
  void TokensDone(JobProgress::Stage stage, int64_t block, int64_t tokens);
  // Returns the time since the last tokens or group.
  absl::Duration GroupDone(int64_t parameters);
  void WaitsForBytes() { ChangeStage(JobProgress::Stage::kIngest); }
  void Writes() { ChangeStage(JobProgress::Stage::kWrite); }

  // Returns the time of running, without waiting.
  absl::Duration Active();

 private:
  void ChangeStage(JobProgress::Stage stage);
  absl::Duration ActiveSince(absl::Duration& mark) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  double SecondsLeft() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Returns what is to be told now; telling it is done without the lock.
  std::optional<JobProgress> Due(bool only_changed_stage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Tell(const std::optional<JobProgress>& progress);

  JobObserver& observer_;
  const absl::Time begun_ = absl::Now();
  Mutex mu_;
  absl::AnyInvocable<absl::Duration()> waited_ ABSL_GUARDED_BY(mu_);
  const double estimated_seconds_;
  JobProgress now_ ABSL_GUARDED_BY(mu_);
  JobProgress::Stage told_stage_ ABSL_GUARDED_BY(mu_) = JobProgress::Stage::kIngest;
  absl::Time told_at_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  double seconds_after_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t tokens_before_ ABSL_GUARDED_BY(mu_) = 0;  // They ran since an earlier Begin.
  int64_t tokens_total_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t parameters_total_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t parameters_ ABSL_GUARDED_BY(mu_) = 0;
  double share_ ABSL_GUARDED_BY(mu_) = 0;     // So much is done.
  absl::Duration mark_ ABSL_GUARDED_BY(mu_);  // It is the active time of the last tokens or group.
  absl::Duration running_tokens_ ABSL_GUARDED_BY(mu_);
  absl::Duration quantizing_ ABSL_GUARDED_BY(mu_);
  // It holds (active time, parameters_) of groups.
  std::deque<std::pair<absl::Duration, int64_t>> lately_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_PROGRESS_H_
