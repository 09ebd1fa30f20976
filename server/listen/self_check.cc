#include "server/listen/self_check.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/listen/descriptor.h"
#include "server/listen/listening_sockets.h"

namespace salient {
namespace {

// The greeting is a client's preface and its settings, of which there are none.
constexpr char kGreeting[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
constexpr size_t kGreetingBytes = 24 + 9;
static_assert(sizeof(kGreeting) == kGreetingBytes);  // The last zero is the literal's own.

absl::Status WaitFor(int socket, short events, absl::string_view address, absl::Time end) {
  pollfd polled = {socket, events, 0};
  while (true) {
    const absl::Duration rest = std::max(end - absl::Now(), absl::ZeroDuration());
    const int ready = poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(rest)) + 1);
    if (ready > 0) return absl::OkStatus();
    if (ready == 0) {
      return absl::DeadlineExceededError(
          absl::StrCat("a connection to ", address, " is not answered"));
    }
    if (errno != EINTR) return absl::UnavailableError(std::strerror(errno));
  }
}

}  // namespace

absl::Status CheckAnswered(absl::string_view address, absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  const absl::StatusOr<Descriptor> connecting = BeginConnect(address);
  if (!connecting.ok()) return connecting.status();
  const int socket = connecting->number();
  absl::Status status = WaitFor(socket, POLLOUT, address, end);
  if (!status.ok()) return status;
  int error = 0;
  socklen_t bytes = sizeof(error);
  getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &bytes);
  if (error == ECONNRESET) return absl::OkStatus();
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat(address, ": ", std::strerror(error)));
  }
  // One that is closed already cannot be greeted, which is an answer.
  if (send(socket, kGreeting, kGreetingBytes, MSG_NOSIGNAL) < 0) return absl::OkStatus();
  return WaitFor(socket, POLLIN, address, end);
}

}  // namespace salient
