#include "server/rpc/simple_rpc.h"

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "server/rpc/rpc_record.h"
#include "server/rpc/status.h"

namespace salient {

grpc::ServerUnaryReactor* FinishUnary(grpc::CallbackServerContext* context, Metrics::Rpc& metrics,
                                      const std::string& method, const absl::Status& status) {
  RpcRecord record(metrics, method, context->peer());
  record.Received(0);
  if (status.ok()) record.Sent(0);
  record.End(status);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

grpc::ServerUnaryReactor* RunUnary(const UnaryCall& call, WorkerPool& pool,
                                   absl::AnyInvocable<absl::Status()> work) {
  absl::StatusOr<DrainGate::Pass> pass = nullptr;
  if (call.gate != nullptr) pass = call.gate->Enter();
  if (!pass.ok()) return FinishUnary(call.context, call.metrics, call.method, pass.status());
  auto record = std::make_unique<RpcRecord>(call.metrics, call.method, call.context->peer());
  record->Received(0);
  grpc::ServerUnaryReactor* reactor = call.context->DefaultReactor();
  pool.Submit(WorkerPool::Lane::kShort,
              [reactor, pass = *std::move(pass), record = std::move(record),
               work = std::move(work)]() mutable {
                const absl::Status status = work();
                if (status.ok()) record->Sent(0);
                record->End(status);
                pass = nullptr;
                reactor->Finish(ToGrpcStatus(status));
              });
  return reactor;
}

}  // namespace salient
