// A job as the table keeps it.
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
#include "server/jobs/blob_arrival.h"
#include "server/jobs/job.h"
#include "server/jobs/job_log.h"
#include "server/jobs/job_progress.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/result_blobs.h"
#include "server/workers/cancel_token.h"

namespace salient {

// What ends a job from outside: CANCELLED, or FAILED with the error.
struct JobStop {
  JobState state = JobState::kCancelled;
  absl::Status error;
};

struct JobRecord {
  JobRecord(JobSpec job_spec, PreparedJob prepared_job, ResultBlobs& blobs)
      : spec(std::move(job_spec)),
        prepared(std::move(prepared_job)),
        sources(blobs),
        results(blobs) {}

  // Set before anybody else sees it.
  const JobSpec spec;
  const PreparedJob prepared;
  JobEstimate estimate;
  int64_t sequence = 0;
  std::string id;
  std::string request_id;
  absl::Time create_time;
  const std::shared_ptr<JobLog> log = std::make_shared<JobLog>();

  CancelToken stop;
  std::unique_ptr<BlobArrival> arrival;
  std::atomic<double> share{0};  // done

  // Of the thread that runs it, then of the one that forgets it.
  ResultBlobs::Hold sources;
  ResultBlobs::Hold results;

  // Guarded by the table's lock.
  JobState state = JobState::kQueued;
  absl::Status error;
  std::vector<ResultFile> files;
  bool provisional = false;
  absl::Time start_time = absl::InfiniteFuture();
  absl::Time end_time = absl::InfiniteFuture();
  std::optional<JobStop> stopped_by;  // the first
  std::optional<JobEvaluation> evaluation;
  std::optional<Inspection> inspection;
  std::optional<ModelStudy> study;
  JobUsage usage;
  std::unique_ptr<JobProgressReporter> progress;  // once it runs; itself thread-safe
  std::thread thread;
  // While queued: what had come of its blobs, and when it last grew.
  int64_t arrived_bytes = -1;
  absl::Time arrived_at;

  bool reads_blobs() const { return prepared.model.path.empty(); }
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_RECORD_H_
