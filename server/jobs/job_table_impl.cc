#include "server/jobs/job_table_impl.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_progress.h"
#include "server/process/memory.h"
#include "server/store/digest.h"

namespace salient {
namespace {

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;
// The specs of a page have so many bytes at most, or there is one job: whoever lists jobs reads
// them.
constexpr size_t kMaxPageSpecBytes = size_t{16} << 20;

}  // namespace

absl::StatusOr<JobTableImpl::RecordPtr> JobTableImpl::Find(absl::string_view name) const {
  absl::string_view id = name;
  if (absl::ConsumePrefix(&id, "jobs/")) {
    if (const auto found = by_id_.find(id); found != by_id_.end()) return found->second;
  }
  return CallError(absl::StatusCode::kNotFound, Reason::kUnknownJob,
                   absl::StrCat("no job is named ", QuoteForMessage(name)));
}

JobSnapshot JobTableImpl::SnapshotLocked(const JobRecord& job) const {
  JobSnapshot snapshot;
  snapshot.name = NameOfJob(job.id);
  snapshot.serialized_spec = job.serialized_spec;
  snapshot.state = job.state;
  snapshot.error = job.error;
  snapshot.estimate = job.estimate;
  snapshot.files = job.files;
  snapshot.provisional = job.provisional;
  snapshot.revision = job.log->revision();
  snapshot.create_time = job.create_time;
  snapshot.start_time = job.start_time;
  snapshot.end_time = job.end_time;
  snapshot.numerics_id = job.numerics_id;
  snapshot.evaluation = job.evaluation;
  snapshot.inspection = job.inspection;
  snapshot.study = job.study;
  snapshot.usage = job.usage;
  return snapshot;
}

JobSnapshot JobTableImpl::Snapshot(const JobRecord& job) const {
  JobSnapshot snapshot;
  JobProgressReporter* progress = nullptr;
  std::shared_ptr<const JobWork> work;
  {
    const MutexLock lock(mu_);
    snapshot = SnapshotLocked(job);
    progress = job.progress.get();
    work = job.work;
  }
  if (HasEnded(snapshot.state)) return snapshot;
  snapshot.missing = store_.FindMissing(work->prepared.needed);
  if (progress != nullptr) {
    snapshot.usage.seconds = absl::ToDoubleSeconds(progress->Active());
    snapshot.usage.peak_memory_bytes = PeakResidentMemoryBytes();
  }
  return snapshot;
}

absl::StatusOr<JobSnapshot> JobTableImpl::Get(absl::string_view name) const {
  RecordPtr job;
  {
    const MutexLock lock(mu_);
    absl::StatusOr<RecordPtr> found = Find(name);
    if (!found.ok()) return found.status();
    job = *std::move(found);
  }
  return Snapshot(*job);
}

absl::StatusOr<JobTable::Page> JobTableImpl::List(int page_size, absl::string_view page_token,
                                                  const std::vector<JobState>& states) const {
  if (page_size < 0) {
    return WithField(InvalidCall(Reason::kBadJob,
                                 absl::StrCat("page_size is ", page_size, "; expected at least 0")),
                     "page_size");
  }
  const size_t size =
      page_size == 0 ? kDefaultPageSize : static_cast<size_t>(std::min(page_size, kMaxPageSize));
  int64_t before = INT64_MAX;
  if (!page_token.empty()) {
    const absl::StatusOr<int64_t> position = page_tokens_.Decode(page_token);
    if (!position.ok()) return position.status();
    before = *position;
  }
  Page page;
  std::vector<RecordPtr> jobs;
  {
    size_t spec_bytes = 0;
    const MutexLock lock(mu_);
    for (auto next = jobs_.upper_bound(before); next != jobs_.end(); ++next) {
      const RecordPtr& job = next->second;
      if (!states.empty() && std::find(states.begin(), states.end(), job->state) == states.end()) {
        continue;
      }
      spec_bytes += job->serialized_spec.size();
      if (jobs.size() == size || (!jobs.empty() && spec_bytes > kMaxPageSpecBytes)) {
        page.next_page_token = page_tokens_.Encode(jobs.back()->sequence);
        break;
      }
      jobs.push_back(job);
    }
  }
  for (const RecordPtr& job : jobs) page.jobs.push_back(Snapshot(*job));
  return page;
}

absl::StatusOr<JobSnapshot> JobTableImpl::Cancel(absl::string_view name) {
  RecordPtr job;
  {
    const MutexLock lock(mu_);
    absl::StatusOr<RecordPtr> found = Find(name);
    if (!found.ok()) return found.status();
    job = *std::move(found);
    Stop(*job, JobState::kCancelled, absl::OkStatus());
  }
  job->log->Wake();
  return Snapshot(*job);
}

absl::Status JobTableImpl::Delete(absl::string_view name) {
  {
    const MutexLock lock(mu_);
    const absl::StatusOr<RecordPtr> job = Find(name);
    if (!job.ok()) return job.status();
    if (!HasEnded((*job)->state)) {
      return CallError(absl::StatusCode::kFailedPrecondition, Reason::kJobNotEnded,
                       absl::StrCat(name, ": has not ended; expected it cancelled before"));
    }
    Forget(*job);
    look_again_ = true;
  }
  changed_.NotifyAll();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<JobWatch>> JobTableImpl::Watch(absl::string_view name,
                                                              int64_t after_revision,
                                                              absl::AnyInvocable<void()> wake) {
  const MutexLock lock(mu_);
  const absl::StatusOr<RecordPtr> job = Find(name);
  if (!job.ok()) return job.status();
  return (*job)->log->Watch(after_revision, std::move(wake));
}

void JobTableImpl::BlobChanged(const Digest& /*digest*/) {
  {
    const MutexLock lock(mu_);
    for (const RecordPtr& job : running_) job->arrival->LookAgain();
    if (queued_ == 0 || look_again_) return;
    look_again_ = true;
  }
  changed_.NotifyAll();
}

void JobTableImpl::ObserveGroups(absl::AnyInvocable<void(const TimedGroupReport&)> observe) {
  const MutexLock lock(mu_);
  observe_group_ = std::move(observe);
}

JobTable::Stats JobTableImpl::GetStats() const {
  Stats stats;
  stats.tokens_total = tokens_total_.load(std::memory_order_relaxed);
  stats.parameters_total = parameters_total_.load(std::memory_order_relaxed);
  const MutexLock lock(mu_);
  stats.queued = queued_;
  stats.running = static_cast<int64_t>(running_.size());
  stats.succeeded_total = succeeded_total_;
  stats.failed_total = failed_total_;
  stats.cancelled_total = cancelled_total_;
  if (!running_.empty()) {
    stats.running_progress = running_.front()->share.load(std::memory_order_relaxed);
  }
  return stats;
}

}  // namespace salient
