// One job from its beginning to its end, on a thread of its own.
#ifndef SALIENT_SERVER_JOBS_JOB_RUNNER_H_
#define SALIENT_SERVER_JOBS_JOB_RUNNER_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/jobs/job_progress.h"
#include "server/jobs/job_record.h"
#include "server/jobs/running_job.h"
#include "server/store/blob_store.h"
#include "server/workers/worker_pool.h"

namespace salient {

// Runs the job's task in `work_directory`/<job id>.job, which is gone afterwards. The thread only
// coordinates and waits: loops are computed by the pool. Every error has a reason.
absl::StatusOr<JobOutcome> RunJob(JobRecord& job, const std::string& work_directory,
                                  BlobStore& store, WorkerPool& pool, JobObserver& observer,
                                  absl::FunctionRef<void()> verified);

// Makes `work_directory`, and removes what jobs of an earlier process left in it.
absl::Status PrepareWorkDirectory(const std::string& work_directory);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_RUNNER_H_
