#include "server/rpc/endpoint.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>

#include "grpc/health/v1/health.pb.h"
#include "proto/wire/chunk.h"
#include "server/listen/listening_sockets.h"

namespace salient {
namespace {

// gRPC's own plug-ins add themselves to every server of the process; this takes one out.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    const auto is_reflection = [](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
      return dynamic_cast<grpc::reflection::ProtoServerReflectionPlugin*>(plugin.get()) != nullptr;
    };
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(), is_reflection), plugins->end());
  }
};

// Both switches are of the process, and must be set before the first builder is made.
void RegisterPlugins() {
  static std::once_flag once;
  std::call_once(once, [] { grpc::reflection::InitProtoReflectionServerBuilderPlugin(); });
}

void SetArguments(const ServerConfig& config, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
  builder.SetMaxSendMessageSize(static_cast<int>(kMaxMessageBytes));
  // Weights do not compress, and a small message must not become a large one here.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 100);  // It limits each connection.
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 8 * 1024);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10'000);
  // A peer that vanished is noticed within 40 s; clients may ping as often.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 2);
  // The quota is what the transport holds for all connections; beyond it, it reads more slowly.
  grpc::ResourceQuota quota("salientd");
  quota.Resize(static_cast<size_t>(
      std::clamp<int64_t>(config.memory_bytes / 8, int64_t{64} << 20, int64_t{512} << 20)));
  builder.SetResourceQuota(quota);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Endpoint>> Endpoint::Start(
    const ServerConfig& config, const std::vector<grpc::Service*>& services) {
  absl::StatusOr<ListeningSockets> listening = ListenOn(config.listen);
  if (!listening.ok()) return listening.status();
  RegisterPlugins();
  // The call links the type in, so that reflection can describe the health service.
  (void)grpc::health::v1::HealthCheckRequest::descriptor();
  grpc::EnableDefaultHealthCheckService(config.health);
  grpc::ServerBuilder builder;
  if (!config.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  SetArguments(config, builder);
  for (grpc::Service* service : services) builder.RegisterService(service);
  auto connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      grpc::InsecureServerCredentials());
  // The constructor is private, so make_unique cannot call it.
  std::unique_ptr<Endpoint> endpoint(new Endpoint);
  endpoint->port_ = listening->port;
  endpoint->local_address_ = LocalAddress(config.listen, listening->port);
  endpoint->server_ = builder.BuildAndStart();
  if (endpoint->server_ == nullptr) return absl::InternalError("gRPC's server does not start");
  endpoint->acceptor_ = std::make_unique<ConnectionAcceptor>(
      *std::move(listening), config.max_connections,
      [connections = std::move(connections)](int listener, int socket) {
        grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
        connection.listener_fd = listener;
        connection.fd = socket;
        connections->HandleNewConnection(&connection);
      });
  return endpoint;
}

Endpoint::~Endpoint() { Shutdown(absl::ZeroDuration()); }

void Endpoint::SetServing(const std::string& name, bool serving) {
  if (auto* health = server_->GetHealthCheckService()) health->SetServingStatus(name, serving);
}

void Endpoint::StopServing() {
  if (auto* health = server_->GetHealthCheckService()) health->Shutdown();
}

void Endpoint::Shutdown(absl::Duration wind_up) {
  if (acceptor_ == nullptr) return;
  acceptor_->Stop();
  // Lets statuses get out, then cancels. Every reactor finishes when it is cancelled, so this
  // returns.
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(wind_up));
  server_->Wait();
}

}  // namespace salient
