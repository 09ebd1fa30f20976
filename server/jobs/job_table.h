// Keeps the jobs of this server: accepted, run in turn, watched, cancelled, forgotten.
#ifndef SALIENT_SERVER_JOBS_JOB_TABLE_H_
#define SALIENT_SERVER_JOBS_JOB_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/jobs/job.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/workers/cancel_token.h"
#include "server/workers/worker_pool.h"

namespace salient {

struct JobTableSettings {
  std::string work_directory;  // Hidden states lie there; it is made if it is missing.
  std::string model_root;      // It is empty where no path is allowed.
  std::string output_root;     // It is empty where no path is allowed.
  int max_running_jobs = 1;
  int max_queued_jobs = 100;
  int64_t memory_bytes = int64_t{8} << 30;  // A job estimated above it is refused.
  absl::Duration ttl_after_finished = absl::Hours(24);
  // The specs of jobs that ended without a result (failed, cancelled, inspections) take this at
  // most. Above it the oldest are forgotten before their time.
  int64_t ended_spec_bytes = int64_t{256} << 20;
  // A job fails that waits for a blob of which nothing came for so long.
  absl::Duration stall_timeout = absl::Hours(1);
};

// Shows one job's events. Destroying it never waits for a `wake` that is running on this thread;
// otherwise no wake runs after the destructor.
class JobWatch {
 public:
  struct Batch {
    std::vector<JobEvent> events;
    bool ended = false;  // The job ended and every event of it was taken.
  };
  virtual ~JobWatch() = default;
  // Takes the next events, at most `max_events`, and never waits. Progress that newer progress has
  // replaced may be left out.
  virtual Batch Take(int max_events) = 0;
};

// Is thread-safe. Create reads small files and may wait for a disk: call it on a worker. The others
// take short locks only. Locks with the standard library's mutex, as all of this room.
//
// Jobs live in memory: they end with the process. Their results are blobs of `store`, held until
// the job is deleted or its time is over; a blob of a result that another job holds too, or that
// was uploaded, stays.
class JobTable {
 public:
  // Borrows all; they must outlive the table.
  static absl::StatusOr<std::unique_ptr<JobTable>> Create(const JobTableSettings& settings,
                                                          BlobStore& store, WorkerPool& pool);
  // Cancels what runs and waits for it.
  virtual ~JobTable() = default;

  // Validates all that can be validated before any work, estimates, and accepts unless
  // `validate_only`: then the snapshot has the warnings. Needs config.json and the index inline or
  // in the store, and for a path source opens the whole checkpoint. A job may be accepted before
  // its blobs are there; tokens of many megabytes are judged when it runs.
  //
  // Errors: INVALID_ARGUMENT naming file, tensor, field, value and what was expected;
  // ALREADY_EXISTS for a `job_id`, or `request_id`, of a job with another spec (the same spec: that
  // job is returned); FAILED_PRECONDITION, MISSING_BLOB, for a config or index that is neither
  // inline nor there; RESOURCE_EXHAUSTED with a quota, QUEUE_FULL, or MEMORY, with a retry delay if
  // it is what runs now that leaves no room; UNAVAILABLE, DRAINING; those of `stop`, which is
  // looked at before every step, once it stopped.
  virtual absl::StatusOr<JobSnapshot> Submit(JobSpec spec, absl::string_view job_id,
                                             absl::string_view request_id, bool validate_only,
                                             const CancelToken& stop) = 0;
  // Submits for a caller that waits for the answer, whatever it costs.
  absl::StatusOr<JobSnapshot> Submit(JobSpec spec, absl::string_view job_id,
                                     absl::string_view request_id, bool validate_only) {
    return Submit(std::move(spec), job_id, request_id, validate_only, CancelToken());
  }

  // Returns NOT_FOUND for an unknown job.
  virtual absl::StatusOr<JobSnapshot> Get(absl::string_view name) const = 0;

  struct Page {
    std::vector<JobSnapshot> jobs;  // The newest stands first.
    std::string next_page_token;    // It is empty on the last page.
  };
  // Returns INVALID_ARGUMENT for an unknown token. Empty `states` stand for all.
  virtual absl::StatusOr<Page> List(int page_size, absl::string_view page_token,
                                    const std::vector<JobState>& states) const = 0;

  // Cancels a job. Returns NOT_FOUND for an unknown one. A job that has ended stays as it is.
  virtual absl::StatusOr<JobSnapshot> Cancel(absl::string_view name) = 0;

  // Returns NOT_FOUND; FAILED_PRECONDITION while it has not ended.
  virtual absl::Status Delete(absl::string_view name) = 0;

  // Watches events after `after_revision`. `wake` is called, without locks, from any thread,
  // whenever there may be more to take. Returns NOT_FOUND for an unknown job.
  virtual absl::StatusOr<std::unique_ptr<JobWatch>> Watch(absl::string_view name,
                                                          int64_t after_revision,
                                                          absl::AnyInvocable<void()> wake) = 0;

  // Tells that an upload or blob of the store changed: bytes were appended, it was finished or
  // discarded. Jobs that wait for bytes look again. It is cheap.
  virtual void BlobChanged(const Digest& digest) = 0;

  // Calls `observe` for every group that a job quantizes, on the job's thread, until it is
  // replaced; nullptr: nothing. `observe` must be quick and must not call the table.
  virtual void ObserveGroups(absl::AnyInvocable<void(const TimedGroupReport&)> observe) = 0;

  // Accepts nothing from now on.
  virtual void Drain() = 0;
  // Waits until no job runs. Returns false if that took longer than `timeout`. EndAll is to follow.
  virtual bool WaitUntilIdle(absl::Duration timeout) = 0;
  // Fails all that has not ended: UNAVAILABLE, DRAINING.
  virtual void EndAll() = 0;

  struct Stats {
    int64_t queued = 0;
    int64_t running = 0;
    int64_t succeeded_total = 0;
    int64_t failed_total = 0;
    int64_t cancelled_total = 0;
    int64_t tokens_total = 0;      // They count through each block, in all jobs.
    int64_t parameters_total = 0;  // They were quantized.
    double running_progress = 0;  // It is that of the job that began first, 0 to 1; 0 if none runs.
  };
  virtual Stats GetStats() const = 0;
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_TABLE_H_
