#include "server/rpc/quantization_service.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "server/jobs/job.h"
#include "server/rpc/convert/job.h"
#include "server/rpc/convert/job_spec.h"
#include "server/rpc/convert/tensors.h"
#include "server/rpc/streams/watch_job_reactor.h"
#include "server/rpc/unary/unary_call.h"
#include "server/workers/cancel_token.h"

namespace salient {
namespace {

constexpr absl::Duration kHeartbeat = absl::Seconds(15);

Metrics::Rpc& AddQuantizationRpc(Metrics& metrics, absl::string_view method, RpcType type) {
  return metrics.AddRpc({v1::QuantizationService::service_full_name(), method, type});
}

absl::StatusOr<v1::CreateJobResponse> Create(JobTable& jobs, JobLines& lines,
                                             const v1::CreateJobRequest& request,
                                             const CancelToken& stop) {
  absl::StatusOr<JobSpec> spec = ToJobSpec(request.spec());
  if (!spec.ok()) return spec.status();
  const absl::StatusOr<JobSnapshot> job = jobs.Submit(
      *std::move(spec), request.job_id(), request.request_id(), request.validate_only(), stop);
  if (!job.ok()) return job.status();
  if (!request.validate_only()) lines.Accepted(*job);
  return ToCreated(*job);
}

absl::StatusOr<v1::ListJobsResponse> List(const JobTable& jobs,
                                          const v1::ListJobsRequest& request) {
  const absl::StatusOr<ListRequest> list = ToListRequest(request);
  if (!list.ok()) return list.status();
  absl::StatusOr<JobTable::Page> page = jobs.List(list->page_size, list->page_token, list->states);
  if (!page.ok()) return page.status();
  v1::ListJobsResponse response;
  for (const JobSnapshot& job : page->jobs) *response.add_jobs() = ToSummary(job);
  response.set_next_page_token(std::move(page->next_page_token));
  return response;
}

template <class Response>
absl::StatusOr<Response> Answer(const absl::StatusOr<JobSnapshot>& job) {
  if (!job.ok()) return job.status();
  Response response;
  *response.mutable_job() = ToProto(*job);
  return response;
}

}  // namespace

QuantizationService::QuantizationService(CallRegistry& registry, JobTable& jobs,
                                         JobLines& job_lines, RpcLanes& lanes, Metrics& metrics,
                                         std::string version)
    : registry_(registry),
      jobs_(jobs),
      job_lines_(job_lines),
      lanes_(lanes),
      version_(std::move(version)),
      get_server_info_(AddQuantizationRpc(metrics, "GetServerInfo", RpcType::kUnary)),
      create_job_(AddQuantizationRpc(metrics, "CreateJob", RpcType::kUnary)),
      get_job_(AddQuantizationRpc(metrics, "GetJob", RpcType::kUnary)),
      list_jobs_(AddQuantizationRpc(metrics, "ListJobs", RpcType::kUnary)),
      cancel_job_(AddQuantizationRpc(metrics, "CancelJob", RpcType::kUnary)),
      delete_job_(AddQuantizationRpc(metrics, "DeleteJob", RpcType::kUnary)),
      watch_job_(AddQuantizationRpc(metrics, "WatchJob", RpcType::kServerStream)),
      quantize_tensors_{registry, metrics,
                        AddQuantizationRpc(metrics, "QuantizeTensors", RpcType::kBidiStream)} {}

grpc::ServerUnaryReactor* QuantizationService::GetServerInfo(grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* request,
                                                             grpc::ByteBuffer* response) {
  return RunUnary<v1::GetServerInfoRequest>(
      {context, request, response, get_server_info_, "GetServerInfo", lanes_.control},
      [this](const v1::GetServerInfoRequest& /*request*/,
             const CancelToken& /*stop*/) -> absl::StatusOr<v1::GetServerInfoResponse> {
        return ToServerInfo(registry_.settings(), version_, grpc::Version());
      });
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* QuantizationService::QuantizeTensors(
    grpc::CallbackServerContext* context) {
  return QuantizeTensorsReactor::Start(quantize_tensors_, context);
}

// A spec may be megabytes, and its model's headers a hundred. Only CreateJob is refused while the
// server stops, by the table: others see how the last jobs end.
grpc::ServerUnaryReactor* QuantizationService::CreateJob(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return RunUnary<v1::CreateJobRequest>(
      {context, request, response, create_job_, "CreateJob", lanes_.judging, kMaxJobRequestBytes,
       /*gate=*/nullptr, /*may_take_much_memory=*/true},
      [this](const v1::CreateJobRequest& job, const CancelToken& stop) {
        return Create(jobs_, job_lines_, job, stop);
      });
}

grpc::ServerUnaryReactor* QuantizationService::GetJob(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return RunUnary<v1::GetJobRequest>(
      {context, request, response, get_job_, "GetJob", lanes_.control},
      [this](const v1::GetJobRequest& job, const CancelToken& /*stop*/) {
        return Answer<v1::GetJobResponse>(jobs_.Get(job.name()));
      });
}

grpc::ServerUnaryReactor* QuantizationService::ListJobs(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* request,
                                                        grpc::ByteBuffer* response) {
  return RunUnary<v1::ListJobsRequest>(
      {context, request, response, list_jobs_, "ListJobs", lanes_.control},
      [this](const v1::ListJobsRequest& jobs, const CancelToken& /*stop*/) {
        return List(jobs_, jobs);
      });
}

grpc::ServerUnaryReactor* QuantizationService::CancelJob(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return RunUnary<v1::CancelJobRequest>(
      {context, request, response, cancel_job_, "CancelJob", lanes_.control},
      [this](const v1::CancelJobRequest& job, const CancelToken& /*stop*/) {
        return Answer<v1::CancelJobResponse>(jobs_.Cancel(job.name()));
      });
}

grpc::ServerUnaryReactor* QuantizationService::DeleteJob(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request,
                                                         grpc::ByteBuffer* response) {
  return RunUnary<v1::DeleteJobRequest>(
      {context, request, response, delete_job_, "DeleteJob", lanes_.control},
      [this](const v1::DeleteJobRequest& job,
             const CancelToken& /*stop*/) -> absl::StatusOr<v1::DeleteJobResponse> {
        if (absl::Status status = jobs_.Delete(job.name()); !status.ok()) return status;
        return v1::DeleteJobResponse();
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* QuantizationService::WatchJob(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return WatchJobReactor::Start(jobs_, lanes_.control, watch_job_, kHeartbeat, context, request);
}

}  // namespace salient
