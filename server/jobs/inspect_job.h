// Runs inspect jobs: config and headers come in, what they are and which engines load them goes
// out.
#ifndef SALIENT_SERVER_JOBS_INSPECT_JOB_H_
#define SALIENT_SERVER_JOBS_INSPECT_JOB_H_

#include "absl/status/statusor.h"
#include "core/engines/inspection.h"
#include "server/jobs/job.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/prepared_model.h"
#include "server/jobs/running_job.h"
#include "server/store/blob_store.h"

namespace salient {

// Does all the work that such a job is, while it is prepared. Errors: INVALID_ARGUMENT, BAD_MODEL,
// and UNIMPLEMENTED as Inspect; FAILED_PRECONDITION, MISSING_BLOB, if a header is neither inline
// nor in `store`.
absl::StatusOr<Inspection> InspectModel(const InspectTask& task, PreparedModel& model,
                                        BlobStore& store);

// Hands over what was found when the job was prepared: nothing is read, so nothing is to be
// verified.
absl::StatusOr<JobOutcome> RunInspectJob(const RunningJob& job);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_INSPECT_JOB_H_
