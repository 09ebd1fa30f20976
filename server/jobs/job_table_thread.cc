// Does what the thread of JobTableImpl does: begins, runs, ends and forgets jobs.
#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/parallel/mutex.h"
#include "server/error/call_error.h"
#include "server/jobs/blob_arrival.h"
#include "server/jobs/job.h"
#include "server/jobs/job_progress.h"
#include "server/jobs/job_record.h"
#include "server/jobs/job_table.h"
#include "server/jobs/job_table_impl.h"
#include "server/jobs/running_job.h"
#include "server/process/memory.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"

namespace salient {
namespace {

constexpr absl::Duration kLongestPeriod = absl::Seconds(1);

}  // namespace

// Writes what a running job says into its log.
class JobTableImpl::Observer final : public JobObserver {
 public:
  Observer(JobTableImpl& table, JobRecord& job) : table_(table), job_(job) {}

  void Happened(decltype(JobEvent::what) what) override {
    {
      const MutexLock lock(table_.mu_);
      if (const auto* file = std::get_if<ResultFile>(&what); file != nullptr) {
        job_.files.push_back(*file);
      } else if (const auto* group = std::get_if<TimedGroupReport>(&what);
                 group != nullptr && table_.observe_group_ != nullptr) {
        table_.observe_group_(*group);
      }
      job_.log->Append(absl::Now(), std::move(what));
    }
    job_.log->Wake();
  }
  void Computed(int64_t tokens, int64_t parameters) override {
    table_.tokens_total_.fetch_add(tokens, std::memory_order_relaxed);
    table_.parameters_total_.fetch_add(parameters, std::memory_order_relaxed);
  }
  void Advanced(double share) override { job_.share.store(share, std::memory_order_relaxed); }

 private:
  JobTableImpl& table_;
  JobRecord& job_;
};

JobTableImpl::JobTableImpl(const JobTableSettings& settings, BlobStore& store, WorkerPool& pool)
    : settings_(settings),
      store_(store),
      pool_(pool),
      blobs_(store),
      first_resident_bytes_(ResidentMemoryBytes()) {
  keeper_ = std::thread([this] { KeepTable(); });
}

JobTableImpl::~JobTableImpl() {
  {
    const MutexLock lock(mu_);
    draining_ = true;
    for (const auto& [sequence, job] : jobs_) Stop(*job, JobState::kCancelled, absl::OkStatus());
  }
  WaitUntilIdle(absl::InfiniteDuration());
  {
    const MutexLock lock(mu_);
    closing_ = true;
  }
  changed_.NotifyAll();
  keeper_.join();
}

void JobTableImpl::Stop(JobRecord& job, JobState state, absl::Status error) {
  if (job.state == JobState::kQueued) {
    --queued_;
    End(job, state, std::move(error));
  } else if (job.state == JobState::kRunning && !job.stopped_by.has_value()) {
    job.stopped_by = JobStop{state, std::move(error)};
    job.stop.Cancel();
    job.arrival->LookAgain();
  }
}

void JobTableImpl::End(JobRecord& job, JobState state, absl::Status error) {
  job.state = state;
  job.error = std::move(error);
  job.end_time = absl::Now();
  if (state == JobState::kSucceeded) ++succeeded_total_;
  if (state == JobState::kFailed) ++failed_total_;
  if (state == JobState::kCancelled) ++cancelled_total_;
  job.log->Append(job.end_time, state);
  released_.push_back(std::exchange(job.work, nullptr));
  look_again_ = true;
  changed_.NotifyAll();
}

void JobTableImpl::Forget(const RecordPtr& job) {
  // The argument may be the map's own.
  const JobRecord& kept = *forgotten_.emplace_back(job);
  by_id_.erase(kept.id);
  jobs_.erase(kept.sequence);
}

// A job over blobs takes its turn when it has something to do: tokens are here, and bytes of the
// weights begin to come. An evaluation needs everything, and so does a study.
bool JobTableImpl::IsReady(const JobRecord& job) const {
  const auto& [spec, prepared] = *job.work;
  if (std::holds_alternative<InspectTask>(spec.task)) return true;
  if (!std::holds_alternative<QuantizeTask>(spec.task)) {
    return store_.FindMissing(prepared.needed).empty();
  }
  if (!store_.Status(*prepared.tokens).complete) return false;
  if (!job.work->reads_blobs()) return true;
  const std::vector<ModelFile>& weights = prepared.model.manifest.weights;
  return std::any_of(weights.begin(), weights.end(), [this](const ModelFile& file) {
    const BlobStatus blob = store_.Status(file.digest);
    return blob.complete || blob.committed_bytes > 0;
  });
}

// Jobs at once share the memory that each was admitted to. The process counts in every estimate, so
// this errs on the safe side.
bool JobTableImpl::HasRoomNow(const JobRecord& job) const {
  if (running_.empty()) return settings_.max_running_jobs > 0;
  int64_t memory_bytes = job.estimate.peak_memory_bytes;
  for (const RecordPtr& other : running_) memory_bytes += other->estimate.peak_memory_bytes;
  return static_cast<int>(running_.size()) < settings_.max_running_jobs &&
         memory_bytes <= settings_.memory_bytes;
}

void JobTableImpl::StartReady(absl::Time now, std::vector<RecordPtr>& changed) {
  if (draining_ || queued_ == 0) return;
  std::vector<RecordPtr> queue;
  for (const auto& [sequence, job] : jobs_) {
    if (job->state == JobState::kQueued) queue.push_back(job);
  }
  std::sort(queue.begin(), queue.end(), [](const RecordPtr& a, const RecordPtr& b) {
    const int difference = a->work->spec.priority - b->work->spec.priority;
    if (difference != 0) return difference > 0;
    return a->sequence < b->sequence;
  });
  // A job that finds no room is not passed by, except by inspections, which need none.
  bool has_room = true;
  for (const RecordPtr& job : queue) {
    if (IsReady(*job)) {
      if (!std::holds_alternative<InspectTask>(job->work->spec.task)) {
        has_room = has_room && HasRoomNow(*job);
        if (!has_room) continue;
      }
      Start(job, now);
      changed.push_back(job);
      continue;
    }
    int64_t arrived = 0;
    for (const Digest& digest : job->work->prepared.needed) {
      arrived += store_.Status(digest).committed_bytes;
    }
    if (arrived != job->arrived_bytes) {
      job->arrived_bytes = arrived;
      job->arrived_at = now;
    } else if (now - job->arrived_at >= settings_.stall_timeout) {
      const std::vector<Digest> missing = store_.FindMissing(job->work->prepared.needed);
      Stop(
          *job, JobState::kFailed,
          CallError(absl::StatusCode::kFailedPrecondition, Reason::kMissingBlob,
                    absl::StrCat("nothing came for ", absl::FormatDuration(settings_.stall_timeout),
                                 "; ", missing.size(), " blobs are missing",
                                 missing.empty() ? "" : ", the first ",
                                 missing.empty() ? "" : ToString(missing.front()))));
      changed.push_back(job);
    }
  }
}

void JobTableImpl::Start(const RecordPtr& job, absl::Time now) {
  --queued_;
  // A peak of its own, unless others are in it.
  if (running_.empty()) {
    ResetPeakResidentMemory();
    idle_resident_bytes_ = ResidentMemoryBytes();
  }
  job->state = JobState::kRunning;
  job->start_time = now;
  // Both live as long as the record; the observer lives as long as the thread.
  job->arrival =
      std::make_unique<BlobArrival>(store_, job->stop, settings_.stall_timeout,
                                    [record = job.get()] { record->progress->WaitsForBytes(); });
  running_.push_back(job);
  job->log->Append(now, JobState::kRunning);
  job->thread = std::thread([this, job] { Run(job); });
}

void JobTableImpl::Run(const RecordPtr& job) {
  Observer observer(*this, *job);
  {
    const MutexLock lock(mu_);
    job->progress = std::make_unique<JobProgressReporter>(
        observer, [record = job.get()] { return record->arrival->Waited(); },
        job->estimate.seconds);
  }
  const auto verified = [this, &job] {
    const MutexLock lock(mu_);
    job->provisional = false;
  };
  absl::StatusOr<JobOutcome> outcome =
      RunJob(*job, settings_.work_directory, store_, pool_, observer, verified);
  if (!outcome.ok()) job->results.Release();
  job->sources.Release();
  JobUsage usage;
  usage.seconds = absl::ToDoubleSeconds(job->progress->Active());
  usage.peak_memory_bytes = PeakResidentMemoryBytes();
  TrimFreeMemory();  // The next job's estimate begins with what is resident.
  {
    const MutexLock lock(mu_);
    if (outcome.ok()) {
      usage.parameters = outcome->parameters;
      usage.bytes_in = outcome->bytes_in;
      usage.bytes_out = outcome->bytes_out;
      usage.linear_count = outcome->linear_count;
      usage.quantized_linear_count = outcome->quantized_linear_count;
      job->evaluation = std::move(outcome->evaluation);
      job->inspection = std::move(outcome->inspection);
      job->study = std::move(outcome->study);
    } else {
      job->files.clear();
    }
    job->usage = usage;
    running_.erase(std::find(running_.begin(), running_.end(), job));
    finished_.push_back(std::move(job->thread));
    if (outcome.ok()) {
      End(*job, JobState::kSucceeded, absl::OkStatus());
    } else if (job->stopped_by.has_value()) {
      End(*job, job->stopped_by->state, job->stopped_by->error);
    } else {
      End(*job, JobState::kFailed, WithoutPaths(outcome.status()));
    }
  }
  job->log->Wake();
  const MutexLock lock(mu_);
  idle_.NotifyAll();
}

absl::Time JobTableImpl::Keep(absl::Time now, std::vector<RecordPtr>& changed) {
  absl::Time next = now + kLongestPeriod;
  std::vector<RecordPtr> over;
  int64_t spec_bytes = 0;  // It counts jobs without a result, the newest first.
  for (const auto& [sequence, job] : jobs_) {
    if (HasEnded(job->state)) {
      const bool has_result = job->state == JobState::kSucceeded && !job->inspection.has_value();
      if (!has_result) spec_bytes += static_cast<int64_t>(job->serialized_spec.size());
      const bool too_many = !has_result && spec_bytes > settings_.ended_spec_bytes;
      const absl::Time forget =
          job->end_time + job->ttl_after_finished.value_or(settings_.ttl_after_finished);
      if (forget <= now || too_many) over.push_back(job);
      next = std::min(next, forget);
    } else if (job->state == JobState::kRunning) {
      const absl::Time limit = job->start_time + job->work->spec.timeout;
      if (limit <= now) {
        Stop(*job, JobState::kFailed,
             CallError(absl::StatusCode::kDeadlineExceeded, Reason::kDeadlineExceeded,
                       absl::StrCat("the job ran longer than its timeout of ",
                                    absl::FormatDuration(job->work->spec.timeout))));
      } else {
        next = std::min(next, limit);
      }
    }
  }
  for (const RecordPtr& job : over) Forget(job);
  StartReady(now, changed);
  return next;
}

void JobTableImpl::KeepTable() {
  MutexLock lock(mu_);
  while (true) {
    look_again_ = false;
    std::vector<RecordPtr> changed;
    const absl::Time now = absl::Now();
    const absl::Time next = Keep(now, changed);
    std::vector<RecordPtr> forgotten = std::exchange(forgotten_, {});
    std::vector<std::shared_ptr<const JobWork>> released = std::exchange(released_, {});
    std::vector<std::thread> finished = std::exchange(finished_, {});
    if (!changed.empty() || !forgotten.empty() || !released.empty() || !finished.empty()) {
      lock.Unlock();
      for (const RecordPtr& job : changed) job->log->Wake();
      for (std::thread& thread : finished) thread.join();
      changed.clear();
      released.clear();
      forgotten.clear();  // It may wait for a disk.
      lock.Lock();
      continue;
    }
    if (closing_) return;
    const absl::Duration period = std::clamp(next - now, absl::Milliseconds(1), kLongestPeriod);
    const auto end = std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(period);
    while (!look_again_ && !closing_ && changed_.WaitUntil(mu_, end)) {
    }
  }
}

}  // namespace salient
