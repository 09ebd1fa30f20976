// Opens the sockets on which connections come in.
#ifndef SALIENT_SERVER_LISTEN_LISTENING_SOCKETS_H_
#define SALIENT_SERVER_LISTEN_LISTENING_SOCKETS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/listen/descriptor.h"

namespace salient {

struct ListeningSockets {
  std::vector<Descriptor> sockets;  // They do not block.
  int port = 0;                     // It is the one that was bound.
};

// Listens on "HOST:PORT" or "[IPV6]:PORT", on every address that HOST has; port 0 takes one that is
// free. 0.0.0.0 and [::] both mean all addresses of both families, as in other gRPC servers.
// Returns INVALID_ARGUMENT naming the address and what the kernel says.
absl::StatusOr<ListeningSockets> ListenOn(absl::string_view address);

// Returns where a process on this host reaches what listens on `address` and `port`: the same, or
// loopback for all addresses.
std::string LocalAddress(absl::string_view address, int port);

// Connects to "HOST:PORT" with a socket that does not block; the connection may not be there yet.
// Returns RESOURCE_EXHAUSTED if this process or host has no descriptor left, else UNAVAILABLE.
absl::StatusOr<Descriptor> BeginConnect(absl::string_view address);

}  // namespace salient

#endif  // SALIENT_SERVER_LISTEN_LISTENING_SOCKETS_H_
