// Runs a job from its request to its result, with all that it needs going up and its result coming
// down.
#ifndef SALIENT_CLIENT_JOBS_RUN_H_
#define SALIENT_CLIENT_JOBS_RUN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/job_display.h"
#include "client/transfer/local_blob.h"
#include "client/transfer/retry.h"
#include "salient/v1/job.pb.h"
#include "salient/v1/quantization_service.pb.h"
#include "salient/v1/report.pb.h"

namespace salient::client {

struct JobPlan {
  v1::CreateJobRequest request;
  // The server judges the job by these, which are uploaded before it is created.
  std::vector<LocalBlob> first;
  // Uploaded, in this order, while it runs.
  std::vector<LocalBlob> rest;
  // Directory for the result files; empty: nothing is downloaded.
  std::string download_to;
  // This says whether people are told the job's name as soon as it is there, so that they find it
  // again whatever happens to this process.
  bool tells_name = false;
  // An interrupted user should know this sentence.
  std::string after_interrupt;
};

struct FinishedJob {
  v1::Job job;
  std::vector<v1::GroupReport> groups;  // They stand in the order in which they came.
  std::vector<std::string> warnings;
};

// Uploads what is missing, creates the job, watches it, and downloads each result file as soon as
// it is ready; the directory appears when the job succeeded and all of it was verified. A job_id of
// ours is chosen if the request has none, so that the job can be cancelled whenever Ctrl-C comes.
// A job of that id that was cancelled before is forgotten and begun again.
//
// After Ctrl-C, and whenever this side fails, the job is cancelled on the server too; if that comes
// too late, the error says where the result is.
//
// Errors: CANCELLED after Ctrl-C; the job's own; of UploadBlob, DownloadResultFile, WatchJob.
absl::StatusOr<FinishedJob> RunJob(const JobServer& server, JobPlan plan, JobDisplay& display,
                                   Interrupt& interrupt);

// Is the answer to a validate_only request.
struct EstimatedJob {
  v1::Job job;
  std::vector<std::string> warnings;
};

// Asks for it, and shows the warnings; uploads `first` alone.
absl::StatusOr<EstimatedJob> EstimateJob(const JobServer& server, JobPlan plan, JobDisplay& display,
                                         Interrupt& interrupt);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_JOBS_RUN_H_
