#include "client/terminal/standard_output.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace salient::client {
namespace {

std::atomic<bool> written = false;

}  // namespace

absl::Status WriteOutput(absl::string_view text) {
  written = true;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return absl::OkStatus();
  }
  const std::string message =
      absl::StrCat("standard output cannot be written: ", std::strerror(errno));
  return errno == EPIPE ? absl::CancelledError(message) : absl::InternalError(message);
}

bool OutputWritten() { return written; }

}  // namespace salient::client
