// Provides a server for one command, here or elsewhere, and says how models get to it.
#ifndef SALIENT_CLIENT_JOBS_SESSION_H_
#define SALIENT_CLIENT_JOBS_SESSION_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/jobs/run.h"
#include "client/options/flag_names.h"
#include "client/terminal/errors.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/job_display.h"
#include "client/transfer/embedded.h"
#include "client/transfer/retry.h"
#include "core/file/appearing_directory.h"
#include "salient/v1/job.pb.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient::client {

struct SessionFlags {
  std::string server;                      // If it is empty the server is embedded.
  int workers = 0;                         // They are those of the embedded server.
  std::string instruction_set = "native";  // It is that of the embedded server.
};

// An embedded server reads models where they are; to another one they are uploaded. It is
// move-only.
class JobSession {
 public:
  // Working files of an embedded server stand beside `output` until the end, where the room for the
  // result has to be anyway; if `output` is empty they lie in a temporary directory.
  //
  // Its errors are those of EmbeddedServer::Start, AppearingDirectory::Create, FetchServerInfo and
  // CheckServerDoes.
  static absl::StatusOr<JobSession> Start(const SessionFlags& flags, v1::TaskKind task,
                                          const std::string& output, Interrupt& interrupt);

  bool remote() const { return !embedded_.has_value(); }
  const JobServer& server() const { return server_; }
  const v1::GetServerInfoResponse& info() const { return info_; }

  // Says in `source` where the model is and adds what must be uploaded to `plan`; of the manifest
  // at most `inline_bytes` are inline. Its errors are those of DescribeModel, and CANCELLED after
  // Ctrl-C.
  absl::Status AddModel(const std::string& directory, int64_t inline_bytes, JobDisplay& display,
                        Interrupt& interrupt, v1::ModelSource& source, JobPlan& plan) const;

  // Does the same for a job that looks at headers alone: no weights are read or uploaded.
  absl::Status AddHeaders(const std::string& directory, Interrupt& interrupt,
                          v1::ModelSource& source, JobPlan& plan) const;

  // Runs the job that `fill` describes and shows how far it is. What an interrupted user should
  // know is said unless `fill` says it. Its errors are those of `fill` and RunJob.
  using Fill = absl::FunctionRef<absl::Status(JobDisplay& display, JobPlan& plan)>;
  absl::StatusOr<FinishedJob> Run(Fill fill, Interrupt& interrupt) const;

  // Asks what the job that `fill` describes would cost. Its errors are those of `fill` and
  // EstimateJob.
  absl::StatusOr<EstimatedJob> Estimate(Fill fill, Interrupt& interrupt) const;

  // Returns INTERNAL: a job that succeeded has no `what` ("a study").
  absl::Status MissingResult(const v1::Job& job, absl::string_view what) const;

 private:
  JobSession() = default;

  absl::StatusOr<JobPlan> Plan(Fill fill, JobDisplay& display) const;
  // Returns the failure as users are told it: nobody shares an embedded server.
  absl::Status Told(const absl::Status& failure) const {
    return InFlags(remote() ? failure : WithoutOthers(failure));
  }

  std::optional<AppearingDirectory> store_;  // It is never committed, and outlives the server.
  std::optional<EmbeddedServer> embedded_;
  JobServer server_;
  v1::GetServerInfoResponse info_;
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_JOBS_SESSION_H_
