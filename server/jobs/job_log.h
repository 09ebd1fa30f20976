// Records what happened to one job, in order, and who wants to hear of it.
#ifndef SALIENT_SERVER_JOBS_JOB_LOG_H_
#define SALIENT_SERVER_JOBS_JOB_LOG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "core/parallel/mutex.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"

namespace salient {

// Revisions count from 1. Of progress only the newest is kept, so that a log grows with what the
// model has, not with time. The first state that has ended ends the log. It is thread-safe; takes
// short locks only.
class JobLog : public std::enable_shared_from_this<JobLog> {
 public:
  // Returns the new revision. Nothing may come after the end. Wakes nobody, so that it may be
  // called with locks held: Wake follows.
  int64_t Append(absl::Time now, decltype(JobEvent::what) what);

  // Calls what watchers gave, one call at a time each. To be called without locks.
  void Wake();

  int64_t revision() const;

  // Keeps the log alive.
  std::unique_ptr<JobWatch> Watch(int64_t after_revision, absl::AnyInvocable<void()> wake);

 private:
  class Watcher;
  class View;

  // Events after `revision`, at most `max_events`; moves `revision` on.
  JobWatch::Batch TakeAfter(int64_t& revision, int max_events) const;

  mutable Mutex mu_;
  std::map<int64_t, JobEvent> events_ ABSL_GUARDED_BY(mu_);
  int64_t revision_ ABSL_GUARDED_BY(mu_) = 0;
  // It is that of the newest progress; 0 stands for none.
  int64_t progress_revision_ ABSL_GUARDED_BY(mu_) = 0;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::weak_ptr<Watcher>> watchers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_LOG_H_
