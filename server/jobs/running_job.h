// Holds what a job that runs has at hand.
#ifndef SALIENT_SERVER_JOBS_RUNNING_JOB_H_
#define SALIENT_SERVER_JOBS_RUNNING_JOB_H_

#include <optional>
#include <string>

#include "core/engines/inspection.h"
#include "core/parallel/executor.h"
#include "core/study/study_model.h"
#include "server/jobs/blob_arrival.h"
#include "server/jobs/job.h"
#include "server/jobs/job_progress.h"
#include "server/jobs/prepared_job.h"
#include "server/jobs/result_blobs.h"
#include "server/store/blob_store.h"
#include "server/workers/cancel_token.h"

namespace salient {

// Everything is borrowed, for the time of running.
struct RunningJob {
  const JobSpec& spec;
  PreparedJob& prepared;  // What this run finds out is put in.
  BlobStore& store;
  ResultBlobs::Hold& results;
  BlobArrival& arrival;
  const CancelToken& stop;
  Executor& executor;
  JobObserver& observer;
  JobProgressReporter& progress;
  const std::string& work_directory;  // It is the job's own and exists.
};

struct JobOutcome {
  int64_t parameters = 0;
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  int64_t linear_count = 0;            // They are those of the decoder blocks of all results.
  int64_t quantized_linear_count = 0;  // They are among these.
  std::optional<JobEvaluation> evaluation;
  std::optional<Inspection> inspection;
  std::optional<ModelStudy> study;
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_RUNNING_JOB_H_
