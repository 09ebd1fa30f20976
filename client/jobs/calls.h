// The calls about jobs.
#ifndef SALIENT_CLIENT_JOBS_CALLS_H_
#define SALIENT_CLIENT_JOBS_CALLS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/transfer/call_group.h"
#include "client/transfer/retry.h"
#include "salient/v1/job.pb.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient::client {

// Errors of all: of FromGrpcStatus; CANCELLED when the group was cancelled.

// Waits longer than the others for its answer: the server may open a whole checkpoint.
absl::StatusOr<v1::CreateJobResponse> CreateJob(const JobServer& server, CallGroup& calls,
                                                const v1::CreateJobRequest& request);
absl::StatusOr<v1::Job> GetJob(const JobServer& server, CallGroup& calls, const std::string& name);
// Lists all pages, newest first.
absl::StatusOr<std::vector<v1::Job>> ListJobs(const JobServer& server, CallGroup& calls);
absl::StatusOr<v1::Job> CancelJob(const JobServer& server, CallGroup& calls,
                                  const std::string& name);
absl::Status DeleteJob(const JobServer& server, CallGroup& calls, const std::string& name);

// Calls `take` for every event of the job, in order, each once, and returns the job when it has
// ended. After a broken stream it goes on behind the last event.
absl::StatusOr<v1::Job> WatchJob(const JobServer& server, CallGroup& calls, const std::string& name,
                                 absl::FunctionRef<void(const v1::JobEvent& event)> take);

bool HasEnded(v1::JobState state);

// Returns "jobs/ID" for "ID" and for "jobs/ID".
std::string FullJobName(absl::string_view id);

// Says that the server at `address` no longer knows a job that it had.
absl::Status LostJob(const std::string& name, const std::string& address);

// Returns why a job that ended did not succeed; OK if it did. It is CancelledByOthers for one that
// somebody cancelled.
absl::Status OutcomeOf(const v1::Job& job, const std::string& address);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_JOBS_CALLS_H_
