#include "server/listen/listening_sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace salient {
namespace {

struct HostPort {
  std::string host;
  int port = 0;

  bool IsEverywhere() const { return host == "0.0.0.0" || host == "::"; }
};

HostPort Split(absl::string_view address) {
  HostPort split;
  const size_t colon = address.rfind(':');
  absl::string_view host = address.substr(0, colon);
  if (colon == absl::string_view::npos ||
      !absl::SimpleAtoi(address.substr(colon + 1), &split.port)) {
    host = address;
  }
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  split.host = std::string(host);
  return split;
}

absl::Status ListenError(absl::string_view address, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(
      "cannot listen on ", address, ": ", why, "; expected an address of this host that is free"));
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// Returns null if the host has none, with the resolver's code for it in `error`.
Addresses Resolve(const std::string& host, int port, int& error) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  error = getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  return {error == 0 ? found : nullptr, &freeaddrinfo};
}

void SetPort(sockaddr_storage& address, int port) {
  if (address.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(static_cast<uint16_t>(port));
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(static_cast<uint16_t>(port));
  }
}

int PortOf(int socket) {
  sockaddr_storage bound{};
  socklen_t bytes = sizeof(bound);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &bytes) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(bound).sin_port);
}

// Returns the errno of what failed; 0: it listens.
int ListenOnOne(const sockaddr* address, socklen_t bytes, bool both_families, Descriptor& socket) {
  const int on = 1;
  const int off = 0;
  socket = Descriptor(
      ::socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!socket.is_open()) return errno;
  // Connections of a process before may still be ending. It does not share a port with a listener.
  setsockopt(socket.number(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address->sa_family == AF_INET6 && setsockopt(socket.number(), IPPROTO_IPV6, IPV6_V6ONLY,
                                                   both_families ? &off : &on, sizeof(on)) != 0) {
    return errno;
  }
  if (bind(socket.number(), address, bytes) != 0) return errno;
  return listen(socket.number(), SOMAXCONN) == 0 ? 0 : errno;
}

absl::StatusOr<ListeningSockets> ListenEverywhere(absl::string_view address, int port) {
  ListeningSockets listening;
  Descriptor socket;
  sockaddr_storage any{};
  any.ss_family = AF_INET6;  // The address of all is zero.
  SetPort(any, port);
  int error =
      ListenOnOne(reinterpret_cast<const sockaddr*>(&any), sizeof(sockaddr_in6), true, socket);
  if (error != 0 && error != EADDRINUSE && error != EACCES) {  // There is no IPv6.
    any.ss_family = AF_INET;
    SetPort(any, port);
    error =
        ListenOnOne(reinterpret_cast<const sockaddr*>(&any), sizeof(sockaddr_in), false, socket);
  }
  if (error != 0) return ListenError(address, std::strerror(error));
  listening.port = PortOf(socket.number());
  listening.sockets.push_back(std::move(socket));
  return listening;
}

}  // namespace

absl::StatusOr<ListeningSockets> ListenOn(absl::string_view address) {
  const HostPort wanted = Split(address);
  if (wanted.IsEverywhere()) return ListenEverywhere(address, wanted.port);
  int error = 0;
  const Addresses found = Resolve(wanted.host, wanted.port, error);
  if (found == nullptr) return ListenError(address, gai_strerror(error));
  ListeningSockets listening;
  listening.port = wanted.port;
  for (const addrinfo* one = found.get(); one != nullptr; one = one->ai_next) {
    sockaddr_storage bound{};
    std::memcpy(&bound, one->ai_addr, one->ai_addrlen);
    SetPort(bound, listening.port);
    Descriptor socket;
    const int failed = ListenOnOne(reinterpret_cast<const sockaddr*>(&bound), one->ai_addrlen,
                                   /*both_families=*/false, socket);
    if (failed == 0) {
      listening.port = PortOf(socket.number());
      listening.sockets.push_back(std::move(socket));
    } else if (error = failed; failed == EADDRINUSE && wanted.port != 0) {
      return ListenError(address, std::strerror(failed));
    }
  }
  // A name may have an address of a family that this host does not speak.
  if (listening.sockets.empty()) return ListenError(address, std::strerror(error));
  return listening;
}

std::string LocalAddress(absl::string_view address, int port) {
  const HostPort split = Split(address);
  if (split.IsEverywhere()) return absl::StrCat("127.0.0.1:", port);
  const bool is_v6 = split.host.find(':') != std::string::npos;
  return is_v6 ? absl::StrCat("[", split.host, "]:", port) : absl::StrCat(split.host, ":", port);
}

absl::StatusOr<Descriptor> BeginConnect(absl::string_view address) {
  const HostPort split = Split(address);
  int error = 0;
  const Addresses found = Resolve(split.host, split.port, error);
  if (found == nullptr) return absl::UnavailableError(gai_strerror(error));
  for (const addrinfo* one = found.get(); one != nullptr; one = one->ai_next) {
    Descriptor socket(
        ::socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
    if (!socket.is_open()) {
      const absl::string_view why = std::strerror(errno);
      if (errno == EMFILE || errno == ENFILE) return absl::ResourceExhaustedError(why);
      error = errno;
      continue;
    }
    if (connect(socket.number(), one->ai_addr, one->ai_addrlen) == 0 || errno == EINPROGRESS) {
      return socket;
    }
    error = errno;
  }
  return absl::UnavailableError(std::strerror(error));
}

}  // namespace salient
