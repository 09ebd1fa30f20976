// Decides what JobTableImpl takes, and what it turns away.
#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/model/numerics.h"
#include "core/parallel/mutex.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"
#include "server/jobs/job_estimate.h"
#include "server/jobs/job_names.h"
#include "server/jobs/job_record.h"
#include "server/jobs/job_table_impl.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/prepared_model.h"
#include "server/jobs/root_path.h"
#include "server/process/memory.h"
#include "server/store/digest.h"
#include "server/workers/cancel_token.h"

namespace salient {
namespace {

constexpr absl::Duration kRetryWhenInUse = absl::Seconds(30);

absl::Status DrainingError() {
  return WithRetryAfter(CallError(absl::StatusCode::kUnavailable, Reason::kDraining,
                                  "the server is stopping; try another one, or later"),
                        absl::Seconds(10));
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
                                                 absl::string_view request_id, bool validate_only,
                                                 const CancelToken& stop) {
  if (absl::Status status = CheckJobId(job_id); !status.ok()) return status;
  if (absl::Status status = CheckRequestId(request_id); !status.ok()) return status;
  RecordPtr same;
  {
    const MutexLock lock(mu_);
    absl::StatusOr<RecordPtr> found = FindSame(spec.serialized, job_id, request_id);
    if (!found.ok()) return found.status();
    same = *std::move(found);
    if (same == nullptr) {
      if (absl::Status status = CheckAdmission(); !status.ok()) return status;
    }
  }
  if (same != nullptr) return Snapshot(*same);

  const int64_t resident_bytes = ResidentMemoryBytes();
  absl::StatusOr<PreparedJob> prepared = PrepareJob(spec, settings_, store_, stop);
  if (absl::Status stopped = stop.Check(); !stopped.ok()) return stopped;
  if (!prepared.ok()) return WithoutPaths(prepared.status());
  ProcessBytes process = MeasureProcess(resident_bytes);
  absl::StatusOr<JobEstimate> estimate =
      EstimateJob(spec, *prepared, pool_.workers(), process.bytes);
  if (!estimate.ok()) return WithModelReason(estimate.status());
  const int64_t run_bytes = estimate->peak_memory_bytes - process.bytes;
  if (estimate->peak_memory_bytes > settings_.memory_bytes) {
    // The allocator may keep what earlier requests and calls needed.
    TrimFreeMemory();
    process = MeasureProcess(resident_bytes);
    estimate->peak_memory_bytes = process.bytes + run_bytes;
  }
  if (absl::Status room = CheckRoom(*prepared, *estimate, process.of_request + run_bytes);
      !room.ok()) {
    return room;
  }
  const std::string numerics_id = NumericsIdOf(spec);
  auto job = std::make_shared<JobRecord>(std::move(spec), *std::move(prepared), blobs_);
  job->estimate = *estimate;
  job->numerics_id = numerics_id;
  job->id = job_id.empty() ? NewJobId() : std::string(job_id);
  job->request_id = std::string(request_id);
  job->create_time = absl::Now();
  job->provisional = job->work->reads_blobs();
  if (validate_only) {
    JobSnapshot validated = Snapshot(*job);
    validated.warnings = job->work->prepared.warnings;
    return validated;
  }
  // What it reads must not go away with the job that made it.
  for (const Digest& digest : job->work->prepared.needed) job->sources.Keep(digest);
  {
    const MutexLock lock(mu_);
    // Others came while this one was judged.
    absl::StatusOr<RecordPtr> found = FindSame(job->serialized_spec, job_id, request_id);
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
      for (const std::string& warning : job->work->prepared.warnings) {
        job->log->Append(job->create_time, JobWarning{warning});
      }
      look_again_ = true;
    }
  }
  if (same != nullptr) return Snapshot(*same);
  changed_.NotifyAll();
  return Snapshot(*job);
}

JobTableImpl::ProcessBytes JobTableImpl::MeasureProcess(int64_t resident_before) const {
  const int64_t resident = ResidentMemoryBytes();
  ProcessBytes process;
  process.of_request = std::max<int64_t>(0, resident - resident_before);
  process.bytes = resident;
  const MutexLock lock(mu_);
  // What running jobs hold will be free again when it is this one's turn.
  if (!running_.empty()) {
    process.bytes = std::min(resident, idle_resident_bytes_ + process.of_request);
  }
  return process;
}

// Checks the room of memory and of the store, as far as that can be told beforehand.
absl::Status JobTableImpl::CheckRoom(const PreparedJob& job, const JobEstimate& estimate,
                                     int64_t job_bytes) const {
  if (estimate.peak_memory_bytes > settings_.memory_bytes) {
    absl::Status status = CallError(
        absl::StatusCode::kResourceExhausted, Reason::kMemory,
        absl::StrCat("the job is estimated to need ", job_bytes, " bytes of memory beside the ",
                     estimate.peak_memory_bytes - job_bytes, " in use; this server may use ",
                     settings_.memory_bytes));
    const bool fits_alone = first_resident_bytes_ + job_bytes <= settings_.memory_bytes;
    if (fits_alone) status = WithRetryAfter(std::move(status), kRetryWhenInUse);
    return WithQuota(std::move(status), "memory_bytes");
  }
  int64_t blob_bytes = job.output_path.empty() ? estimate.most_output_bytes : 0;
  for (const Digest& digest : store_.FindMissing(job.needed)) {
    // An upload that was begun has its place.
    if (store_.Status(digest).committed_bytes > 0) continue;
    // Sizes are the client's word, and any number.
    blob_bytes += std::min(digest.size_bytes, INT64_MAX - blob_bytes);
  }
  const int64_t free_bytes = store_.limits().capacity_bytes - store_.Usage().used_bytes;
  if (blob_bytes <= std::max<int64_t>(0, free_bytes)) return absl::OkStatus();
  absl::Status full = CallError(
      absl::StatusCode::kResourceExhausted, Reason::kSpoolFull,
      absl::StrCat("blobs and results of the job take ", blob_bytes, " bytes; the store has ",
                   free_bytes, " free of ", store_.limits().capacity_bytes));
  // Trying again does not help a blob that even the empty store could not hold.
  if (blob_bytes <= store_.limits().capacity_bytes) full = WithRetryAfter(full, absl::Minutes(1));
  return WithQuota(std::move(full), "store_bytes");
}

absl::Status JobTableImpl::WithoutPaths(const absl::Status& status) const {
  return WithoutRoots(status,
                      {settings_.model_root, settings_.output_root, settings_.work_directory});
}

absl::StatusOr<JobTableImpl::RecordPtr> JobTableImpl::FindSame(absl::string_view serialized_spec,
                                                               absl::string_view job_id,
                                                               absl::string_view request_id) const {
  for (const auto& [sequence, job] : jobs_) {
    const bool same_id = !job_id.empty() && job->id == job_id;
    const bool same_request = !request_id.empty() && job->request_id == request_id;
    if (!same_id && !same_request) continue;
    const bool same_both = job_id.empty() || same_id;  // A request that names two jobs is neither.
    if (same_both && job->serialized_spec == serialized_spec) return job;
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

void JobTableImpl::Drain() {
  const MutexLock lock(mu_);
  draining_ = true;
}

bool JobTableImpl::WaitUntilIdle(absl::Duration timeout) {
  // Later than any server lives, and within what the clock can hold.
  constexpr absl::Duration kLongest = absl::Hours(24 * 365);
  MutexLock lock(mu_);
  const auto end =
      std::chrono::steady_clock::now() + absl::ToChronoMilliseconds(std::min(timeout, kLongest));
  while (!running_.empty() && idle_.WaitUntil(mu_, end)) {
  }
  return running_.empty();
}

void JobTableImpl::EndAll() {
  std::vector<RecordPtr> ended;
  {
    const MutexLock lock(mu_);
    for (const auto& [sequence, job] : jobs_) {
      if (HasEnded(job->state)) continue;
      Stop(*job, JobState::kFailed, DrainingError());
      ended.push_back(job);
    }
  }
  for (const RecordPtr& job : ended) job->log->Wake();
}

}  // namespace salient
