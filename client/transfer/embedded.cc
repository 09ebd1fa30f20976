// Is the one file of the client that knows the server.
#include "client/transfer/embedded.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/config.h"
#include "server/server.h"

namespace salient::client {

absl::StatusOr<EmbeddedServer> EmbeddedServer::Start(const EmbeddedSettings& settings) {
  ServerConfig config;
  config.listen = "127.0.0.1:0";
  config.workers = settings.workers;
  config.instruction_set = settings.instruction_set;
  config.store_directory = settings.store_directory;
  if (settings.reads_models) {
    // Not assigned from a literal: GCC 12 then warns of an overlap that cannot be.
    const std::string everywhere(1, '/');
    config.model_root = everywhere;
    config.output_root = everywhere;
  }
  config.health = false;
  config.reflection = false;
  // There is one call, so it may have what all calls may have.
  config = WithDefaults(config);
  config.call_memory_bytes = config.memory_bytes;
  auto server = Server::Start(config);
  if (!server.ok()) return server.status();
  return EmbeddedServer(*std::move(server));
}

EmbeddedServer::EmbeddedServer(std::unique_ptr<Server> server) : server_(std::move(server)) {}
EmbeddedServer::EmbeddedServer(EmbeddedServer&&) noexcept = default;
EmbeddedServer& EmbeddedServer::operator=(EmbeddedServer&&) noexcept = default;
EmbeddedServer::~EmbeddedServer() = default;

std::string EmbeddedServer::Address() const { return absl::StrCat("127.0.0.1:", server_->port()); }

}  // namespace salient::client
