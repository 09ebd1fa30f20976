// Runs a server inside this process, for people who have none.
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
  int workers = 0;  // So many threads compute; 0 stands for one for each processor.
  // It is salientd's --instruction-set, and holds for this process.
  std::string instruction_set = "native";
  // If true, the server may read and write any file that this process may, otherwise none.
  bool reads_models = false;
  // It takes blobs and working files; empty stands for a temporary one.
  std::string store_directory = "";
};

// Listens on a free port of the loopback interface until it is destroyed.
class EmbeddedServer {
 public:
  // Starts a server. Its errors are those of Server::Start.
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
