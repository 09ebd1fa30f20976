// Runs gRPC's server: where it listens, what it is told of connections, what health says.
#ifndef SALIENT_SERVER_RPC_ENDPOINT_H_
#define SALIENT_SERVER_RPC_ENDPOINT_H_

#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/config.h"
#include "server/listen/connection_acceptor.h"

namespace salient {

// gRPC 1.51 stops listening for good when descriptors run out while it accepts, so connections are
// accepted here and handed to it. It is thread-safe.
class Endpoint {
 public:
  // Serves `services`, which it borrows, and health and reflection if the config says so. Returns
  // INVALID_ARGUMENT for an address that cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Endpoint>> Start(
      const ServerConfig& config, const std::vector<grpc::Service*>& services);
  ~Endpoint();

  int port() const { return port_; }
  // Returns the address where the process itself reaches it.
  const std::string& local_address() const { return local_address_; }
  ConnectionAcceptor::Stats connections() const { return acceptor_->GetStats(); }

  // Sets what health answers to a name, "" for the whole server; SERVING until it is said.
  void SetServing(const std::string& name, bool serving);
  // Makes health answer NOT_SERVING to every name from now on.
  void StopServing();

  // Takes no connection any more, gives running calls `wind_up` to get their statuses out, then
  // cancels them, and waits until none is left.
  void Shutdown(absl::Duration wind_up);

 private:
  Endpoint() = default;

  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<ConnectionAcceptor> acceptor_;
  std::string local_address_;
  int port_ = 0;
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_ENDPOINT_H_
