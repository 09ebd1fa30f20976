// Runs a study job: a model and two lots of tokens in, what salient channels are worth out.
#ifndef SALIENT_SERVER_JOBS_STUDY_JOB_H_
#define SALIENT_SERVER_JOBS_STUDY_JOB_H_

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "core/study/study_model.h"
#include "server/jobs/job.h"
#include "server/jobs/running_job.h"

namespace salient {

// Runs on a thread that is no worker. Waits until every blob is complete and calls `verified`.
// Errors have a reason.
absl::StatusOr<JobOutcome> RunStudyJob(RunningJob& job, absl::FunctionRef<void()> verified);

// Leaves the work directory out.
StudyModelParams ToStudyModelParams(const StudyTask& task);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_STUDY_JOB_H_
