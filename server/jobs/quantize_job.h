// Runs a quantize job: model and tokens in, blobs or a directory out.
#ifndef SALIENT_SERVER_JOBS_QUANTIZE_JOB_H_
#define SALIENT_SERVER_JOBS_QUANTIZE_JOB_H_

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "server/jobs/running_job.h"

namespace salient {

// Runs on a thread that is no worker: it waits for bytes and for loops. A block is computed as soon
// as its tensors are there; in the end every file of the model must be complete, and then
// `verified` is called. Results are made after that, except tensors that are blobs: they are
// announced when their block is done.
//
// Errors have a reason; those of the core about model or weights BAD_MODEL.
absl::StatusOr<JobOutcome> RunQuantizeJob(RunningJob& job, absl::FunctionRef<void()> verified);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_QUANTIZE_JOB_H_
