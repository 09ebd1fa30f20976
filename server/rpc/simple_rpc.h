// Rpcs that end where they begin: one answer, or a refusal.
#ifndef SALIENT_SERVER_RPC_SIMPLE_RPC_H_
#define SALIENT_SERVER_RPC_SIMPLE_RPC_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <string>

#include "absl/status/status.h"
#include "server/observe/metrics.h"

namespace salient {

// Ends a unary rpc.
grpc::ServerUnaryReactor* FinishUnary(grpc::CallbackServerContext* context, Metrics::Rpc& metrics,
                                      const std::string& method, const absl::Status& status);

// UNIMPLEMENTED: `method` is of the contract but not of this server; says what there is `instead`.
absl::Status NotHere(const std::string& method, const std::string& instead);

// Streams that end at once with NotHere. Each owns itself.
template <typename Request>
class RefusedRead final : public grpc::ServerReadReactor<Request> {
 public:
  explicit RefusedRead(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

template <typename Response>
class RefusedWrite final : public grpc::ServerWriteReactor<Response> {
 public:
  explicit RefusedWrite(const grpc::Status& status) { this->Finish(status); }
  void OnDone() override { delete this; }
};

// Counts and logs such a stream; its status.
grpc::Status RefuseStream(grpc::CallbackServerContext* context, Metrics::Rpc& metrics,
                          const std::string& method, const std::string& instead);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_SIMPLE_RPC_H_
