// Says how this program talks to a server.
#ifndef SALIENT_CLIENT_TRANSFER_CHANNEL_H_
#define SALIENT_CLIENT_TRANSFER_CHANNEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/terminal/interrupt.h"
#include "grpcpp/channel.h"
#include "salient/v1/quantization_service.pb.h"

namespace salient::client {

// A server may take this long to answer a question that costs it nothing.
inline constexpr absl::Duration kAnswerTimeout = absl::Seconds(10);

// Opens a channel to `address` ("host:port", or any gRPC name), not yet connected. It notices a
// server that is gone within a minute, also while nothing is sent.
std::shared_ptr<grpc::Channel> OpenChannel(absl::string_view address);

// Asks the server what it is. Connects the channel, so it is also the friendliest place to learn
// that nobody is there.
//
// Errors: UNAVAILABLE or DEADLINE_EXCEEDED if nobody answers within `timeout`; CANCELLED after
// Ctrl-C; the server's own.
absl::StatusOr<v1::GetServerInfoResponse> FetchServerInfo(std::shared_ptr<grpc::Channel> channel,
                                                          absl::string_view address,
                                                          absl::Duration timeout,
                                                          Interrupt& interrupt);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_CHANNEL_H_
