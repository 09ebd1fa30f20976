#include "server/rpc/quantization_service.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "server/rpc/convert_tensors.h"
#include "server/rpc/simple_rpc.h"

namespace salient {
namespace {

constexpr char kInstead[] = "QuantizeTensors quantizes tensors and calibration in one call";

Metrics::Rpc& AddRpc(Metrics& metrics, absl::string_view method, RpcType type) {
  return metrics.AddRpc({v1::QuantizationService::service_full_name(), method, type});
}

}  // namespace

QuantizationService::QuantizationService(CallRegistry& registry, Metrics& metrics,
                                         std::string version)
    : registry_(registry),
      version_(std::move(version)),
      get_server_info_(AddRpc(metrics, "GetServerInfo", RpcType::kUnary)),
      create_job_(AddRpc(metrics, "CreateJob", RpcType::kUnary)),
      get_job_(AddRpc(metrics, "GetJob", RpcType::kUnary)),
      list_jobs_(AddRpc(metrics, "ListJobs", RpcType::kUnary)),
      cancel_job_(AddRpc(metrics, "CancelJob", RpcType::kUnary)),
      delete_job_(AddRpc(metrics, "DeleteJob", RpcType::kUnary)),
      watch_job_(AddRpc(metrics, "WatchJob", RpcType::kServerStream)),
      quantize_tensors_{registry, metrics,
                        AddRpc(metrics, "QuantizeTensors", RpcType::kBidiStream)} {}

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

grpc::ServerUnaryReactor* QuantizationService::CreateJob(grpc::CallbackServerContext* context,
                                                         const v1::CreateJobRequest* /*request*/,
                                                         v1::CreateJobResponse* /*response*/) {
  return FinishUnary(context, create_job_, "CreateJob", NotHere("CreateJob", kInstead));
}

grpc::ServerUnaryReactor* QuantizationService::GetJob(grpc::CallbackServerContext* context,
                                                      const v1::GetJobRequest* /*request*/,
                                                      v1::GetJobResponse* /*response*/) {
  return FinishUnary(context, get_job_, "GetJob", NotHere("GetJob", kInstead));
}

grpc::ServerUnaryReactor* QuantizationService::ListJobs(grpc::CallbackServerContext* context,
                                                        const v1::ListJobsRequest* /*request*/,
                                                        v1::ListJobsResponse* /*response*/) {
  return FinishUnary(context, list_jobs_, "ListJobs", NotHere("ListJobs", kInstead));
}

grpc::ServerUnaryReactor* QuantizationService::CancelJob(grpc::CallbackServerContext* context,
                                                         const v1::CancelJobRequest* /*request*/,
                                                         v1::CancelJobResponse* /*response*/) {
  return FinishUnary(context, cancel_job_, "CancelJob", NotHere("CancelJob", kInstead));
}

grpc::ServerUnaryReactor* QuantizationService::DeleteJob(grpc::CallbackServerContext* context,
                                                         const v1::DeleteJobRequest* /*request*/,
                                                         v1::DeleteJobResponse* /*response*/) {
  return FinishUnary(context, delete_job_, "DeleteJob", NotHere("DeleteJob", kInstead));
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* QuantizationService::WatchJob(
    grpc::CallbackServerContext* context, const v1::WatchJobRequest* /*request*/) {
  return new RefusedWrite<v1::WatchJobResponse>(
      RefuseStream(context, watch_job_, "WatchJob", kInstead));
}

}  // namespace salient
