#include "client/jobs/calls.h"

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/terminal/errors.h"
#include "client/transfer/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/sync_stream.h"
#include "salient/v1/quantization_service.grpc.pb.h"

namespace salient::client {
namespace {

using Stub = v1::QuantizationService::Stub;

constexpr absl::Duration kCreateTimeout = absl::Minutes(5);
constexpr int32_t kJobsAPage = 1000;

// Makes one unary call: `method` of the stub with a deadline and an error that people can read.
template <typename Request, typename Response>
absl::StatusOr<Response> Ask(const JobServer& server, CallGroup& calls,
                             grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                          Response*),
                             const Request& request, absl::Duration timeout = kAnswerTimeout) {
  const auto stub = v1::QuantizationService::NewStub(server.channel);
  CallGroup::Call call(calls, timeout);
  Response response;
  const grpc::Status status = (stub.get()->*method)(call.context(), request, &response);
  if (calls.Cancelled()) return absl::CancelledError("interrupted");
  if (!status.ok()) return FromGrpcStatus(status, server.address);
  return response;
}

}  // namespace

absl::StatusOr<v1::CreateJobResponse> CreateJob(const JobServer& server, CallGroup& calls,
                                                const v1::CreateJobRequest& request) {
  return Ask(server, calls, &Stub::CreateJob, request, kCreateTimeout);
}

absl::StatusOr<v1::Job> GetJob(const JobServer& server, CallGroup& calls, const std::string& name) {
  v1::GetJobRequest request;
  request.set_name(name);
  auto response = Ask(server, calls, &Stub::GetJob, request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_job());
}

absl::StatusOr<std::vector<v1::Job>> ListJobs(const JobServer& server, CallGroup& calls) {
  std::vector<v1::Job> jobs;
  v1::ListJobsRequest request;
  request.set_page_size(kJobsAPage);
  do {
    auto response = Ask(server, calls, &Stub::ListJobs, request);
    if (!response.ok()) return response.status();
    for (v1::Job& job : *response->mutable_jobs()) jobs.push_back(std::move(job));
    // A page without jobs has no next one, or a broken server would keep us here.
    if (response->jobs().empty()) break;
    request.set_page_token(response->next_page_token());
  } while (!request.page_token().empty());
  return jobs;
}

absl::StatusOr<v1::Job> CancelJob(const JobServer& server, CallGroup& calls,
                                  const std::string& name) {
  v1::CancelJobRequest request;
  request.set_name(name);
  auto response = Ask(server, calls, &Stub::CancelJob, request);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_job());
}

absl::Status DeleteJob(const JobServer& server, CallGroup& calls, const std::string& name) {
  v1::DeleteJobRequest request;
  request.set_name(name);
  return Ask(server, calls, &Stub::DeleteJob, request).status();
}

absl::StatusOr<v1::Job> WatchJob(const JobServer& server, CallGroup& calls, const std::string& name,
                                 absl::FunctionRef<void(const v1::JobEvent& event)> take) {
  const auto stub = v1::QuantizationService::NewStub(server.channel);
  Retry retry(server.retry, calls);
  v1::WatchJobRequest request;
  request.set_name(name);
  for (;;) {
    absl::Status status;
    {
      CallGroup::Call call(calls);
      const auto stream = stub->WatchJob(call.context(), request);
      v1::WatchJobResponse response;
      while (stream->Read(&response)) {
        retry.Succeeded();
        // A heartbeat has no revision of its own.
        if (response.event().revision() <= request.after_revision()) continue;
        request.set_after_revision(response.event().revision());
        take(response.event());
      }
      status = FromGrpcStatus(stream->Finish(), server.address);
    }
    if (calls.Cancelled()) return absl::CancelledError("interrupted");
    if (status.ok()) {
      // A watch ends when the job does; a server may also end it for reasons of its own.
      auto job = GetJob(server, calls, name);
      if (job.ok() && HasEnded(job->state())) return job;
      status = job.ok() ? absl::UnavailableError(absl::StrCat("the server at ", server.address,
                                                              " stopped telling about ", name))
                        : job.status();
    }
    if (!retry.WaitAfter(status)) {
      return calls.Cancelled() ? absl::CancelledError("interrupted") : status;
    }
  }
}

bool HasEnded(v1::JobState state) {
  return state == v1::JOB_STATE_SUCCEEDED || state == v1::JOB_STATE_FAILED ||
         state == v1::JOB_STATE_CANCELLED;
}

std::string FullJobName(absl::string_view id) {
  return absl::StartsWith(id, "jobs/") ? std::string(id) : absl::StrCat("jobs/", id);
}

absl::Status LostJob(const std::string& name, const std::string& address) {
  return absl::AbortedError(
      absl::StrCat("the server at ", address, " lost ", name, ", as after a restart; try again"));
}

absl::Status OutcomeOf(const v1::Job& job, const std::string& address) {
  switch (job.state()) {
    case v1::JOB_STATE_SUCCEEDED:
      return absl::OkStatus();
    case v1::JOB_STATE_CANCELLED:
      return CancelledByOthers(job.name());
    default: {
      const int code = job.error().code();
      return FromGrpcStatus(grpc::Status(code > 0 && code <= grpc::StatusCode::UNAUTHENTICATED
                                             ? static_cast<grpc::StatusCode>(code)
                                             : grpc::StatusCode::INTERNAL,
                                         job.error().message(), job.error().SerializeAsString()),
                            address);
    }
  }
}

}  // namespace salient::client
