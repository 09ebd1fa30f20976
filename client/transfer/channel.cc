#include "client/transfer/channel.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/terminal/errors.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"
#include "salient/v1/quantization_service.grpc.pb.h"

namespace salient::client {
namespace {

bool IsLoopback(absl::string_view address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost") ||
         absl::StartsWith(address, "[::1]") || absl::StartsWith(address, "unix:");
}

}  // namespace

std::shared_ptr<grpc::Channel> OpenChannel(absl::string_view address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 40'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  // A group may compute for longer than a ping's interval while neither side has data to send.
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A proxy of the environment cannot reach our own loopback.
  if (IsLoopback(address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetUserAgentPrefix(absl::StrCat("salient/", SALIENT_VERSION));
  return grpc::CreateCustomChannel(std::string(address), grpc::InsecureChannelCredentials(),
                                   arguments);
}

absl::StatusOr<v1::GetServerInfoResponse> FetchServerInfo(std::shared_ptr<grpc::Channel> channel,
                                                          absl::string_view address,
                                                          absl::Duration timeout,
                                                          Interrupt& interrupt) {
  const auto stub = v1::QuantizationService::NewStub(std::move(channel));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  v1::GetServerInfoResponse response;
  Interrupt::Watch watch(interrupt, [&context] { context.TryCancel(); });
  const grpc::Status status = stub->GetServerInfo(&context, {}, &response);
  if (interrupt.Raised()) return absl::CancelledError("interrupted");
  if (!status.ok()) return FromGrpcStatus(status, address);
  return response;
}

}  // namespace salient::client
