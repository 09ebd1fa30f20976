// Is the process without its main: services, engine and metrics, wired together. An embedded server
// is one, too.
#ifndef SALIENT_SERVER_SERVER_H_
#define SALIENT_SERVER_SERVER_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/config.h"

namespace salient {

// Serves from Start until Shutdown or destruction. It is thread-safe. A process may have several.
class Server {
 public:
  // Starts a server. Returns INVALID_ARGUMENT for a bad config or address, and the errors of
  // LimitInstructionSet and BlobStore::Open. `unreachable`, if there is one, is called once, on a
  // thread of the server, when it finds that its new connections are no longer answered.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const ServerConfig& config, absl::AnyInvocable<void()> unreachable = nullptr);

  // Does as Shutdown with no grace.
  ~Server();

  // Returns the port of gRPC, as bound.
  int port() const;
  // Returns the port of the metrics, as bound; 0: off.
  int metrics_port() const;
  // Returns the config with everything that has a default filled in.
  const ServerConfig& config() const;

  // Stops well: health says NOT_SERVING, new calls are refused (UNAVAILABLE, DRAINING), running
  // ones have `grace` to end and are then ended (UNAVAILABLE, DRAINING). Later calls return at
  // once. Takes at most `grace` and a few seconds.
  void Shutdown(absl::Duration grace);

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_SERVER_H_
