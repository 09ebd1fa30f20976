// Answers rpcs that are one question and one answer. Threads of gRPC hand bytes over; a lane parses
// them, works and serializes the answer.
#ifndef SALIENT_SERVER_RPC_UNARY_UNARY_CALL_H_
#define SALIENT_SERVER_RPC_UNARY_UNARY_CALL_H_

#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstddef>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/observe/metrics.h"
#include "server/rpc/unary/drain_gate.h"
#include "server/workers/bounded_lane.h"
#include "server/workers/cancel_token.h"

namespace salient {

// This is the most that a request takes which is short by nature. Longer ones are refused unparsed:
// a lane for short calls has no time for them.
inline constexpr size_t kMaxShortRequestBytes = size_t{256} << 10;

// This is the most that CreateJob takes: with what the answer adds, a digest of each of 2 * 8192
// files, it stays below what a message may have.
inline constexpr size_t kMaxJobRequestBytes = size_t{2816} << 10;

// Is one that is to be run.
struct UnaryCall {
  grpc::CallbackServerContext* context;
  const grpc::ByteBuffer* request;
  grpc::ByteBuffer* response;
  Metrics::Rpc& metrics;
  std::string method;
  BoundedLane& lane;
  size_t max_request_bytes = kMaxShortRequestBytes;
  DrainGate* gate = nullptr;  // If it is null the call is answered while the server stops, too.
  bool may_take_much_memory = false;
};

// Gets a request, and a place for the serialized response. `stop` stops when the client no longer
// waits for it.
using UnaryWork = absl::AnyInvocable<absl::Status(
    grpc::ByteBuffer request, grpc::ByteBuffer& response, const CancelToken& stop)>;

// Runs `work` on the lane and ends the rpc with what it returns. Ends it without work if the gate
// or the lane refuses it, if the request is too long, or if nobody waits for the answer any more.
grpc::ServerUnaryReactor* StartUnary(const UnaryCall& call, UnaryWork work);

// Returns REQUEST_TOO_LARGE, naming the method, for more bytes than `max_bytes`.
absl::Status CheckRequestLength(absl::string_view method, const grpc::ByteBuffer& request,
                                size_t max_bytes);

// Returns the error of bytes that are no message of type `name`.
absl::Status NotParsed(absl::string_view name);

// Parses bytes; INVALID_ARGUMENT, MESSAGE_ORDER, if they are no Message.
template <class Message>
absl::StatusOr<Message> Parsed(grpc::ByteBuffer bytes) {
  Message message;
  if (grpc::SerializationTraits<Message>::Deserialize(&bytes, &message).ok()) return message;
  return NotParsed(Message::descriptor()->name());
}

template <class Message>
grpc::ByteBuffer Serialized(const Message& message) {
  grpc::ByteBuffer bytes;
  bool own_buffer = false;
  // This writes into memory, so it cannot fail.
  (void)grpc::SerializationTraits<Message>::Serialize(message, &bytes, &own_buffer);
  return bytes;
}

// Does StartUnary with messages: `answer(request, stop)` returns a StatusOr of the response.
template <class Request, class Answer>
grpc::ServerUnaryReactor* RunUnary(const UnaryCall& call, Answer answer) {
  return StartUnary(
      call,
      [answer = std::move(answer)](const grpc::ByteBuffer& bytes, grpc::ByteBuffer& response,
                                   const CancelToken& stop) -> absl::Status {
        const absl::StatusOr<Request> request = Parsed<Request>(bytes);
        if (!request.ok()) return request.status();
        const auto message = answer(*request, stop);
        if (message.ok()) response = Serialized(*message);
        return message.status();
      });
}

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_UNARY_UNARY_CALL_H_
