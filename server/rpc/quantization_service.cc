#include "server/rpc/quantization_service.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "server/rpc/convert_job.h"
#include "server/rpc/convert_job_spec.h"
#include "server/rpc/convert_tensors.h"
#include "server/rpc/simple_rpc.h"
#include "server/rpc/watch_job_reactor.h"

namespace salient {
namespace {

constexpr absl::Duration kHeartbeat = absl::Seconds(15);

Metrics::Rpc& AddQuantizationRpc(Metrics& metrics, absl::string_view method, RpcType type) {
  return metrics.AddRpc({v1::QuantizationService::service_full_name(), method, type});
}

absl::Status Create(JobTable& jobs, JobLines& lines, const v1::CreateJobRequest& request,
                    v1::CreateJobResponse& response) {
  absl::StatusOr<JobSpec> spec = ToJobSpec(request.spec());
  if (!spec.ok()) return spec.status();
  const absl::StatusOr<JobSnapshot> job = jobs.Submit(
      *std::move(spec), request.job_id(), request.request_id(), request.validate_only());
  if (!job.ok()) return job.status();
  if (!request.validate_only()) lines.Accepted(*job);
  *response.mutable_job() = ToProto(*job);
  for (const std::string& warning : job->warnings) response.add_warnings(warning);
  return absl::OkStatus();
}

absl::Status List(const JobTable& jobs, const v1::ListJobsRequest& request,
                  v1::ListJobsResponse& response) {
  const absl::StatusOr<ListRequest> list = ToListRequest(request);
  if (!list.ok()) return list.status();
  absl::StatusOr<JobTable::Page> page = jobs.List(list->page_size, list->page_token, list->states);
  if (!page.ok()) return page.status();
  for (const JobSnapshot& job : page->jobs) *response.add_jobs() = ToSummary(job);
  response.set_next_page_token(std::move(page->next_page_token));
  return absl::OkStatus();
}

absl::Status Answer(const absl::StatusOr<JobSnapshot>& job, v1::Job& message) {
  if (job.ok()) message = ToProto(*job);
  return job.status();
}

}  // namespace

QuantizationService::QuantizationService(CallRegistry& registry, JobTable& jobs,
                                         JobLines& job_lines, Metrics& metrics, std::string version)
    : registry_(registry),
      jobs_(jobs),
      job_lines_(job_lines),
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

grpc::ServerUnaryReactor* QuantizationService::GetServerInfo(
    grpc::CallbackServerContext* context, const v1::GetServerInfoRequest* /*request*/,
    v1::GetServerInfoResponse* response) {
  *response = ToServerInfo(registry_.settings(), version_, grpc::Version());
  return FinishUnary(context, get_server_info_, "GetServerInfo", absl::OkStatus());
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* QuantizationService::QuantizeTensors(
    grpc::CallbackServerContext* context) {
  return QuantizeTensorsReactor::Start(quantize_tensors_, context);
}

// The rpcs of jobs run on workers: a spec may be megabytes. Only CreateJob is refused while the
// server stops, by the table: others see how the last jobs end.
grpc::ServerUnaryReactor* QuantizationService::CreateJob(grpc::CallbackServerContext* context,
                                                         const v1::CreateJobRequest* request,
                                                         v1::CreateJobResponse* response) {
  return RunUnary({context, create_job_, "CreateJob"}, registry_.pool(),
                  [=, this] { return Create(jobs_, job_lines_, *request, *response); });
}

grpc::ServerUnaryReactor* QuantizationService::GetJob(grpc::CallbackServerContext* context,
                                                      const v1::GetJobRequest* request,
                                                      v1::GetJobResponse* response) {
  return RunUnary({context, get_job_, "GetJob"}, registry_.pool(), [=, this] {
    return Answer(jobs_.Get(request->name()), *response->mutable_job());
  });
}

grpc::ServerUnaryReactor* QuantizationService::ListJobs(grpc::CallbackServerContext* context,
                                                        const v1::ListJobsRequest* request,
                                                        v1::ListJobsResponse* response) {
  return RunUnary({context, list_jobs_, "ListJobs"}, registry_.pool(),
                  [=, this] { return List(jobs_, *request, *response); });
}

grpc::ServerUnaryReactor* QuantizationService::CancelJob(grpc::CallbackServerContext* context,
                                                         const v1::CancelJobRequest* request,
                                                         v1::CancelJobResponse* response) {
  return RunUnary({context, cancel_job_, "CancelJob"}, registry_.pool(), [=, this] {
    return Answer(jobs_.Cancel(request->name()), *response->mutable_job());
  });
}

grpc::ServerUnaryReactor* QuantizationService::DeleteJob(grpc::CallbackServerContext* context,
                                                         const v1::DeleteJobRequest* request,
                                                         v1::DeleteJobResponse* /*response*/) {
  return RunUnary({context, delete_job_, "DeleteJob"}, registry_.pool(),
                  [=, this] { return jobs_.Delete(request->name()); });
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* QuantizationService::WatchJob(
    grpc::CallbackServerContext* context, const v1::WatchJobRequest* request) {
  return WatchJobReactor::Start(jobs_, watch_job_, kHeartbeat, context, request);
}

}  // namespace salient
