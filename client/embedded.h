// A server inside this process, for people who have none.
#ifndef SALIENT_CLIENT_EMBEDDED_H_
#define SALIENT_CLIENT_EMBEDDED_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace salient {

class Server;

// Listens on a free port of the loopback interface until it is destroyed.
class EmbeddedServer {
 public:
  // `workers` threads compute; 0 takes one for each processor. Errors: of Server::Start.
  static absl::StatusOr<EmbeddedServer> Start(int workers);
  EmbeddedServer(EmbeddedServer&&) noexcept;
  EmbeddedServer& operator=(EmbeddedServer&&) noexcept;
  ~EmbeddedServer();

  std::string Address() const;

 private:
  explicit EmbeddedServer(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace salient

#endif  // SALIENT_CLIENT_EMBEDDED_H_
