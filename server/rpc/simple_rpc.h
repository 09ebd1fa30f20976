// Rpcs that are one question and one answer.
#ifndef SALIENT_SERVER_RPC_SIMPLE_RPC_H_
#define SALIENT_SERVER_RPC_SIMPLE_RPC_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "server/observe/metrics.h"
#include "server/rpc/drain_gate.h"
#include "server/workers/worker_pool.h"

namespace salient {

// Ends a unary rpc.
grpc::ServerUnaryReactor* FinishUnary(grpc::CallbackServerContext* context, Metrics::Rpc& metrics,
                                      const std::string& method, const absl::Status& status);

// One that is to be run.
struct UnaryCall {
  grpc::CallbackServerContext* context;
  Metrics::Rpc& metrics;
  std::string method;
  DrainGate* gate = nullptr;  // null: also while the server stops
};

// Runs `work` on the pool's short lane and ends the rpc with what it returns; request and response
// live until then. Refused by the gate, it ends at once.
grpc::ServerUnaryReactor* RunUnary(const UnaryCall& call, WorkerPool& pool,
                                   absl::AnyInvocable<absl::Status()> work);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_SIMPLE_RPC_H_
