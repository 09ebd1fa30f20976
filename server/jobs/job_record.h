// Is a job as the table keeps it.
#ifndef SALIENT_SERVER_JOBS_JOB_RECORD_H_
#define SALIENT_SERVER_JOBS_JOB_RECORD_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/engines/inspection.h"
#include "core/study/study_model.h"
#include "server/jobs/blob_arrival.h"
#include "server/jobs/job.h"
#include "server/jobs/job_log.h"
#include "server/jobs/job_progress.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/result_blobs.h"
#include "server/workers/cancel_token.h"

namespace salient {

// Says what ends a job from outside: CANCELLED, or FAILED with the error.
struct JobStop {
  JobState state = JobState::kCancelled;
  absl::Status error;
};

// Holds what a job is to do and what running it takes. With its texts inline and the plans of its
// results this may be many megabytes, which nobody needs when the job has ended.
struct JobWork {
  JobSpec spec;  // It lacks `serialized`.
  PreparedJob prepared;

  // Returns false for an inspection, which was done from headers when it was prepared.
  bool reads_blobs() const {
    return prepared.model.path.empty() && !prepared.inspection.has_value();
  }
};

struct JobRecord {
  JobRecord(JobSpec spec, PreparedJob prepared, ResultBlobs& blobs)
      : serialized_spec(std::exchange(spec.serialized, {})),
        ttl_after_finished(spec.ttl_after_finished),
        sources(blobs),
        results(blobs),
        work(std::make_shared<const JobWork>(JobWork{std::move(spec), std::move(prepared)})) {}

  // Set before anybody else sees it.
  const std::string serialized_spec;
  const std::optional<absl::Duration> ttl_after_finished;
  std::string numerics_id;
  JobEstimate estimate;
  int64_t sequence = 0;
  std::string id;
  std::string request_id;
  absl::Time create_time;
  const std::shared_ptr<JobLog> log = std::make_shared<JobLog>();

  CancelToken stop;
  std::unique_ptr<BlobArrival> arrival;
  std::atomic<double> share{0};  // So much is done.

  // The thread that runs it owns them, then the one that forgets it.
  ResultBlobs::Hold sources;
  ResultBlobs::Hold results;

  // Guarded by the table's lock.
  std::shared_ptr<const JobWork> work;  // It is null when the job has ended.
  JobState state = JobState::kQueued;
  absl::Status error;
  std::vector<ResultFile> files;
  bool provisional = false;
  absl::Time start_time = absl::InfiniteFuture();
  absl::Time end_time = absl::InfiniteFuture();
  std::optional<JobStop> stopped_by;  // The first stop counts.
  std::optional<JobEvaluation> evaluation;
  std::optional<Inspection> inspection;
  std::optional<ModelStudy> study;
  JobUsage usage;
  std::unique_ptr<JobProgressReporter>
      progress;  // It is set once the job runs and is thread-safe itself.
  std::thread thread;
  // While the job is queued these say what had come of its blobs, and when it last grew.
  int64_t arrived_bytes = -1;
  absl::Time arrived_at;
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_RECORD_H_
