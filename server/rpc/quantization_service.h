// salient.v1.QuantizationService: each rpc in a sentence.
#ifndef SALIENT_SERVER_RPC_QUANTIZATION_SERVICE_H_
#define SALIENT_SERVER_RPC_QUANTIZATION_SERVICE_H_

#include <string>

#include "salient/v1/quantization_service.grpc.pb.h"
#include "server/calls/call_registry.h"
#include "server/jobs/job_table.h"
#include "server/observe/job_lines.h"
#include "server/observe/metrics.h"
#include "server/rpc/quantize_tensors_reactor.h"

namespace salient {

// Every rpc by callbacks, QuantizeTensors as bytes: its reactor parses on a worker.
using QuantizationCallbacks = v1::QuantizationService::WithCallbackMethod_GetServerInfo<
    v1::QuantizationService::WithCallbackMethod_CreateJob<
        v1::QuantizationService::WithCallbackMethod_GetJob<
            v1::QuantizationService::WithCallbackMethod_ListJobs<
                v1::QuantizationService::WithCallbackMethod_CancelJob<
                    v1::QuantizationService::WithCallbackMethod_DeleteJob<
                        v1::QuantizationService::WithCallbackMethod_WatchJob<
                            v1::QuantizationService::WithRawCallbackMethod_QuantizeTensors<
                                v1::QuantizationService::Service>>>>>>>>;

class QuantizationService final : public QuantizationCallbacks {
 public:
  // Borrows all but the version.
  QuantizationService(CallRegistry& registry, JobTable& jobs, JobLines& job_lines, Metrics& metrics,
                      std::string version);

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* QuantizeTensors(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context,
                                      const v1::CreateJobRequest* request,
                                      v1::CreateJobResponse* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request,
                                   v1::GetJobResponse* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::CancelJobResponse* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* context,
                                      const v1::DeleteJobRequest* request,
                                      v1::DeleteJobResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      grpc::CallbackServerContext* context, const v1::WatchJobRequest* request) override;

 private:
  CallRegistry& registry_;
  JobTable& jobs_;
  JobLines& job_lines_;
  const std::string version_;
  Metrics::Rpc& get_server_info_;
  Metrics::Rpc& create_job_;
  Metrics::Rpc& get_job_;
  Metrics::Rpc& list_jobs_;
  Metrics::Rpc& cancel_job_;
  Metrics::Rpc& delete_job_;
  Metrics::Rpc& watch_job_;
  QuantizeTensorsShared quantize_tensors_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_QUANTIZATION_SERVICE_H_
