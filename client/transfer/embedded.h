// A server inside this process, for people who have none.
#ifndef SALIENT_CLIENT_TRANSFER_EMBEDDED_H_
#define SALIENT_CLIENT_TRANSFER_EMBEDDED_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace salient {
class Server;
}  // namespace salient

namespace salient::client {

struct EmbeddedSettings {
  int workers = 0;                         // threads that compute; 0: one for each processor
  std::string instruction_set = "native";  // as salientd's --instruction-set; of this process
  // May read and write any file that this process may. Otherwise none.
  bool reads_models = false;
  // For blobs and working files; empty: a temporary one.
  std::string store_directory = "";
};

// Listens on a free port of the loopback interface until it is destroyed.
class EmbeddedServer {
 public:
  // Errors: of Server::Start.
  static absl::StatusOr<EmbeddedServer> Start(const EmbeddedSettings& settings);
  EmbeddedServer(EmbeddedServer&&) noexcept;
  EmbeddedServer& operator=(EmbeddedServer&&) noexcept;
  ~EmbeddedServer();

  std::string Address() const;

 private:
  explicit EmbeddedServer(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_EMBEDDED_H_
