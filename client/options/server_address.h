// Reads the address of a server as people write it.
#ifndef SALIENT_CLIENT_OPTIONS_SERVER_ADDRESS_H_
#define SALIENT_CLIENT_OPTIONS_SERVER_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace salient::client {

inline constexpr char kDefaultServer[] = "127.0.0.1:8443";

// Returns HOST, HOST:PORT, [IPV6], [IPV6]:PORT or http:// and one of these as HOST:PORT; without a
// port that of kDefaultServer. What gRPC has names of its own for, such as unix:PATH and
// dns:///HOST, stays. Returns INVALID_ARGUMENT, saying what was expected, for anything else,
// https:// among it: the server speaks plaintext.
absl::StatusOr<std::string> ServerAddress(absl::string_view text);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_SERVER_ADDRESS_H_
