// Estimates what a job will cost on this machine.
#ifndef SALIENT_SERVER_JOBS_JOB_ESTIMATE_H_
#define SALIENT_SERVER_JOBS_JOB_ESTIMATE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/jobs/job.h"
#include "server/jobs/prepared_job.h"

namespace salient {

// Estimates memory of the process, which has `process_bytes`, and what the run will hold beside it;
// seconds from what one thread was measured to do, once, when the first job asked.
absl::StatusOr<JobEstimate> EstimateJob(const JobSpec& spec, const PreparedJob& job, int workers,
                                        int64_t process_bytes);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_ESTIMATE_H_
