#include "server/jobs/job_table_impl.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/checkpoint/json.h"
#include "core/numerics.h"
#include "server/jobs/job_estimate.h"
#include "server/jobs/process_memory.h"
#include "server/workers/call_error.h"

namespace salient {
namespace {

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;

absl::Status DrainingError() {
  return WithRetryAfter(CallError(absl::StatusCode::kUnavailable, Reason::kDraining,
                                  "the server is stopping; try another one, or later"),
                        absl::Seconds(10));
}

// What errors call the blob: the file of a model, or the tokens.
std::string FileOf(const JobSpec& spec, const Digest& digest) {
  std::vector<const ModelSource*> models = {&spec.model};
  const auto* evaluate = std::get_if<EvaluateTask>(&spec.task);
  if (evaluate != nullptr && evaluate->reference.has_value()) {
    models.push_back(&*evaluate->reference);
  }
  for (const ModelSource* model : models) {
    for (const ModelFile& file : model->files) {
      if (file.digest == digest) return file.name;
    }
  }
  return "tokens";
}

std::string NumericsIdOf(const JobSpec& spec) {
  if (const auto* quantize = std::get_if<QuantizeTask>(&spec.task); quantize != nullptr) {
    return NumericsId(quantize->compute);
  }
  const auto* study = std::get_if<StudyTask>(&spec.task);
  return study != nullptr ? NumericsId(study->compute) : NumericsId();
}

}  // namespace

absl::StatusOr<JobSnapshot> JobTableImpl::Submit(JobSpec spec, absl::string_view job_id,
                                                 absl::string_view request_id, bool validate_only) {
  if (absl::Status status = CheckJobId(job_id); !status.ok()) return status;
  if (absl::Status status = CheckRequestId(request_id); !status.ok()) return status;
  RecordPtr same;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    absl::StatusOr<RecordPtr> found = FindSame(spec, job_id, request_id);
    if (!found.ok()) return found.status();
    same = *std::move(found);
    if (same == nullptr) {
      if (absl::Status status = CheckAdmission(); !status.ok()) return status;
    }
  }
  if (same != nullptr) return Snapshot(*same);

  absl::StatusOr<PreparedJob> prepared = PrepareJob(spec, settings_, store_);
  if (!prepared.ok()) return prepared.status();
  const absl::StatusOr<JobEstimate> estimate = EstimateJob(spec, *prepared, pool_.workers());
  if (!estimate.ok()) return WithModelReason(estimate.status());
  if (absl::Status room = CheckRoom(*prepared, *estimate); !room.ok()) return room;
  auto job = std::make_shared<JobRecord>(std::move(spec), *std::move(prepared), blobs_);
  job->estimate = *estimate;
  job->id = job_id.empty() ? NewJobId() : std::string(job_id);
  job->request_id = std::string(request_id);
  job->create_time = absl::Now();
  job->provisional = job->reads_blobs();
  if (validate_only) return Snapshot(*job);
  // What it reads must not go away with the job that made it.
  for (const Digest& digest : job->prepared.needed) job->sources.Keep(digest);
  {
    const std::lock_guard<std::mutex> lock(mu_);
    // Others came while this one was judged.
    absl::StatusOr<RecordPtr> found = FindSame(job->spec, job_id, request_id);
    if (!found.ok()) return found.status();
    same = *std::move(found);
    if (same == nullptr) {
      if (absl::Status status = CheckAdmission(); !status.ok()) return status;
      job->sequence = next_sequence_++;
      job->arrived_at = job->create_time;
      jobs_.emplace(job->sequence, job);
      by_id_.emplace(job->id, job);
      ++queued_;
      job->log->Append(job->create_time, JobState::kQueued);
      for (const std::string& warning : job->prepared.warnings) {
        job->log->Append(job->create_time, JobWarning{warning});
      }
      look_again_ = true;
    }
  }
  if (same != nullptr) return Snapshot(*same);
  changed_.notify_all();
  return Snapshot(*job);
}

// Of memory and of the store, as far as that can be told beforehand.
absl::Status JobTableImpl::CheckRoom(const PreparedJob& job, const JobEstimate& estimate) const {
  if (estimate.peak_memory_bytes > settings_.memory_bytes) {
    return WithQuota(
        CallError(absl::StatusCode::kResourceExhausted, Reason::kMemory,
                  absl::StrCat("the job is estimated to need ", estimate.peak_memory_bytes,
                               " bytes of memory; this server may use ", settings_.memory_bytes)),
        "memory_bytes");
  }
  int64_t blob_bytes = job.output_path.empty() ? estimate.most_output_bytes : 0;
  for (const Digest& digest : store_.FindMissing(job.needed)) {
    // An upload that was begun has its place.
    if (store_.Status(digest).committed_bytes == 0) blob_bytes += digest.size_bytes;
  }
  const int64_t free_bytes = store_.limits().capacity_bytes - store_.Usage().used_bytes;
  if (blob_bytes <= std::max<int64_t>(0, free_bytes)) return absl::OkStatus();
  return WithQuota(
      WithRetryAfter(CallError(absl::StatusCode::kResourceExhausted, Reason::kSpoolFull,
                               absl::StrCat("blobs and results of the job take ", blob_bytes,
                                            " bytes; the store has ", free_bytes, " free of ",
                                            store_.limits().capacity_bytes)),
                     absl::Minutes(1)),
      "store_bytes");
}

absl::StatusOr<JobTableImpl::RecordPtr> JobTableImpl::FindSame(const JobSpec& spec,
                                                               absl::string_view job_id,
                                                               absl::string_view request_id) const {
  for (const auto& [sequence, job] : jobs_) {
    const bool same_id = !job_id.empty() && job->id == job_id;
    const bool same_request = !request_id.empty() && job->request_id == request_id;
    if (!same_id && !same_request) continue;
    const bool same_both = job_id.empty() || same_id;  // a request that names two jobs is neither
    if (same_both && job->spec.serialized == spec.serialized) return job;
    return CallError(
        absl::StatusCode::kAlreadyExists, Reason::kJobExists,
        absl::StrCat(same_id ? absl::StrCat("job_id ", QuoteForMessage(job_id))
                             : absl::StrCat("request_id ", QuoteForMessage(request_id)),
                     ": ", NameOfJob(job->id), " has it and another spec; expected the same"));
  }
  return nullptr;
}

absl::Status JobTableImpl::CheckAdmission() const {
  if (draining_) return DrainingError();
  if (queued_ < settings_.max_queued_jobs) return absl::OkStatus();
  return WithQuota(
      WithRetryAfter(CallError(absl::StatusCode::kResourceExhausted, Reason::kQueueFull,
                               absl::StrCat(queued_, " jobs wait; expected fewer than ",
                                            settings_.max_queued_jobs)),
                     absl::Seconds(30)),
      "queued_jobs");
}

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
  snapshot.serialized_spec = job.spec.serialized;
  snapshot.state = job.state;
  snapshot.error = job.error;
  snapshot.estimate = job.estimate;
  snapshot.files = job.files;
  snapshot.provisional = job.provisional;
  snapshot.revision = job.log->revision();
  snapshot.create_time = job.create_time;
  snapshot.start_time = job.start_time;
  snapshot.end_time = job.end_time;
  snapshot.numerics_id = NumericsIdOf(job.spec);
  snapshot.evaluation = job.evaluation;
  snapshot.inspection = job.inspection;
  snapshot.study = job.study;
  snapshot.usage = job.usage;
  return snapshot;
}

JobSnapshot JobTableImpl::Snapshot(const JobRecord& job) const {
  JobSnapshot snapshot;
  JobProgressReporter* progress = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    snapshot = SnapshotLocked(job);
    progress = job.progress.get();
  }
  if (HasEnded(snapshot.state)) return snapshot;
  snapshot.missing = store_.FindMissing(job.prepared.needed);
  if (progress != nullptr) {
    snapshot.usage.seconds = absl::ToDoubleSeconds(progress->Active());
    snapshot.usage.peak_memory_bytes = PeakResidentMemoryBytes();
  }
  return snapshot;
}

absl::StatusOr<JobSnapshot> JobTableImpl::Get(absl::string_view name) const {
  RecordPtr job;
  {
    const std::lock_guard<std::mutex> lock(mu_);
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
    const std::lock_guard<std::mutex> lock(mu_);
    for (auto next = jobs_.upper_bound(before); next != jobs_.end(); ++next) {
      const RecordPtr& job = next->second;
      if (!states.empty() && std::find(states.begin(), states.end(), job->state) == states.end()) {
        continue;
      }
      if (jobs.size() == size) {
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
    const std::lock_guard<std::mutex> lock(mu_);
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
    const std::lock_guard<std::mutex> lock(mu_);
    const absl::StatusOr<RecordPtr> job = Find(name);
    if (!job.ok()) return job.status();
    if (!HasEnded((*job)->state)) {
      return CallError(absl::StatusCode::kFailedPrecondition, Reason::kJobNotEnded,
                       absl::StrCat(name, ": has not ended; expected it cancelled before"));
    }
    Forget(*job);
    look_again_ = true;
  }
  changed_.notify_all();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<JobWatch>> JobTableImpl::Watch(absl::string_view name,
                                                              int64_t after_revision,
                                                              absl::AnyInvocable<void()> wake) {
  const std::lock_guard<std::mutex> lock(mu_);
  const absl::StatusOr<RecordPtr> job = Find(name);
  if (!job.ok()) return job.status();
  return (*job)->log->Watch(after_revision, std::move(wake));
}

void JobTableImpl::BlobChanged(const Digest& /*digest*/) {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    for (const RecordPtr& job : running_) job->arrival->LookAgain();
    if (queued_ == 0 || look_again_) return;
    look_again_ = true;
  }
  changed_.notify_all();
}

void JobTableImpl::BlobRejected(const Digest& digest) {
  std::vector<RecordPtr> failed;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    for (const auto& [sequence, job] : jobs_) {
      const std::vector<Digest>& needed = job->prepared.needed;
      if (HasEnded(job->state)) continue;
      if (std::find(needed.begin(), needed.end(), digest) == needed.end()) continue;
      Stop(*job, JobState::kFailed,
           InvalidCall(Reason::kDigestMismatch,
                       absl::StrCat(FileOf(job->spec, digest), ": blob ", ToString(digest),
                                    ": what was uploaded does not have this digest")));
      failed.push_back(job);
    }
  }
  for (const RecordPtr& job : failed) job->log->Wake();
}

void JobTableImpl::ObserveGroups(absl::AnyInvocable<void(const TimedGroupReport&)> observe) {
  const std::lock_guard<std::mutex> lock(mu_);
  observe_group_ = std::move(observe);
}

void JobTableImpl::Drain() {
  const std::lock_guard<std::mutex> lock(mu_);
  draining_ = true;
}

bool JobTableImpl::WaitUntilIdle(absl::Duration timeout) {
  // Later than any server lives, and within what the clock can hold.
  constexpr absl::Duration kLongest = absl::Hours(24 * 365);
  std::unique_lock<std::mutex> lock(mu_);
  return idle_.wait_for(lock, absl::ToChronoMilliseconds(std::min(timeout, kLongest)),
                        [this] { return running_.empty(); });
}

void JobTableImpl::EndAll() {
  std::vector<RecordPtr> ended;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    for (const auto& [sequence, job] : jobs_) {
      if (HasEnded(job->state)) continue;
      Stop(*job, JobState::kFailed, DrainingError());
      ended.push_back(job);
    }
  }
  for (const RecordPtr& job : ended) job->log->Wake();
}

JobTable::Stats JobTableImpl::GetStats() const {
  Stats stats;
  stats.tokens_total = tokens_total_.load(std::memory_order_relaxed);
  stats.parameters_total = parameters_total_.load(std::memory_order_relaxed);
  const std::lock_guard<std::mutex> lock(mu_);
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
