// Runs an evaluate job: models and tokens in, perplexities out.
#ifndef SALIENT_SERVER_JOBS_EVALUATE_JOB_H_
#define SALIENT_SERVER_JOBS_EVALUATE_JOB_H_

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "core/config/model/model_config.h"
#include "server/jobs/job.h"
#include "server/jobs/running_job.h"

namespace salient {

// Runs on a thread that is no worker. Waits until every blob is complete and calls `verified`:
// nothing of an evaluation is of use before. Errors have a reason.
absl::StatusOr<JobOutcome> RunEvaluateJob(RunningJob& job, absl::FunctionRef<void()> verified);

// Returns how many models an evaluation runs: the model, the reference, and that rounded to
// nearest.
int ModelCount(const EvaluateTask& task, const ModelConfig& model);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_EVALUATE_JOB_H_
