// Writes what the server writes about itself: one line a call, on standard error. No client data
// but names of tensors and groups inside error messages.
#ifndef SALIENT_SERVER_OBSERVE_LOGS_H_
#define SALIENT_SERVER_OBSERVE_LOGS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/calls/tensor_call.h"

namespace salient {

// This is the longest part of an error's message that a line shows.
inline constexpr size_t kMaxLoggedBytes = 512;

// Says how a call ended.
struct CallLine {
  absl::string_view method;
  absl::string_view peer;
  absl::Status status;
  absl::Duration elapsed;
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  CallSummary summary;
};

// Names accepted by SetLogLevel: "debug", "info", "warning", "error", "off".
bool IsLogLevel(absl::string_view level);

// Starts logging for the process. Without it nothing is logged: an embedded server is silent.
void StartLogging(absl::string_view level);

void LogInfo(absl::string_view message);
void LogWarning(absl::string_view message);

// Logs OK at info, INTERNAL at error, others at warning.
void LogCall(const CallLine& line);

// Returns the line's text: key=value fields, the message quoted with control characters escaped.
std::string CallText(const CallLine& line);

}  // namespace salient

#endif  // SALIENT_SERVER_OBSERVE_LOGS_H_
