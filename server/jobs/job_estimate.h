// What a job will cost on this machine.
#ifndef SALIENT_SERVER_JOBS_JOB_ESTIMATE_H_
#define SALIENT_SERVER_JOBS_JOB_ESTIMATE_H_

#include "absl/status/statusor.h"
#include "server/jobs/job.h"
#include "server/jobs/prepared_job.h"

namespace salient {

// Memory of the process as it is now and what the run will hold beside it; seconds from what one
// thread was measured to do, once, when the first job asked.
absl::StatusOr<JobEstimate> EstimateJob(const JobSpec& spec, const PreparedJob& job, int workers);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_ESTIMATE_H_
