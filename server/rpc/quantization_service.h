// Serves salient.v1.QuantizationService: each rpc in a sentence.
#ifndef SALIENT_SERVER_RPC_QUANTIZATION_SERVICE_H_
#define SALIENT_SERVER_RPC_QUANTIZATION_SERVICE_H_

#include <string>

#include "salient/v1/quantization_service.grpc.pb.h"
#include "server/calls/call_registry.h"
#include "server/jobs/job_table.h"
#include "server/observe/job_lines.h"
#include "server/observe/metrics.h"
#include "server/rpc/streams/quantize_tensors_reactor.h"
#include "server/rpc/unary/rpc_lanes.h"

namespace salient {

// Every rpc goes by callbacks and as bytes: lanes and workers parse.
using QuantizationCallbacks = v1::QuantizationService::WithRawCallbackMethod_GetServerInfo<
    v1::QuantizationService::WithRawCallbackMethod_CreateJob<
        v1::QuantizationService::WithRawCallbackMethod_GetJob<
            v1::QuantizationService::WithRawCallbackMethod_ListJobs<
                v1::QuantizationService::WithRawCallbackMethod_CancelJob<
                    v1::QuantizationService::WithRawCallbackMethod_DeleteJob<
                        v1::QuantizationService::WithRawCallbackMethod_WatchJob<
                            v1::QuantizationService::WithRawCallbackMethod_QuantizeTensors<
                                v1::QuantizationService::Service>>>>>>>>;

class QuantizationService final : public QuantizationCallbacks {
 public:
  // Borrows all but the version.
  QuantizationService(CallRegistry& registry, JobTable& jobs, JobLines& job_lines, RpcLanes& lanes,
                      Metrics& metrics, std::string version);

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const grpc::ByteBuffer* request,
                                          grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* QuantizeTensors(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchJob(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;

 private:
  CallRegistry& registry_;
  JobTable& jobs_;
  JobLines& job_lines_;
  RpcLanes& lanes_;
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
