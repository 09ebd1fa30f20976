// From what went wrong to what the user reads and what the shell sees.
#ifndef SALIENT_CLIENT_ERRORS_H_
#define SALIENT_CLIENT_ERRORS_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "grpcpp/support/status.h"

namespace salient::client {

// What every command exits with. A batch scheduler may rely on them: a retry is worthwhile after 69
// and 75, and useless after 2 and 42.
inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitBadInput = 42;
inline constexpr int kExitUnavailable = 69;  // No server there, or it went away.
inline constexpr int kExitDefect = 70;       // Neither the input nor the load: disk or a defect.
inline constexpr int kExitTryAgain = 75;     // The server is well, but full or draining.
inline constexpr int kExitInterrupted = 130;

// The outcome of a call to the server at `address`, with the same code. The message is one
// sentence of printable text, at most 2 KiB: the server's own, then what its google.rpc details
// (ErrorInfo, BadRequest, QuotaFailure, RetryInfo) add to it. OK stays OK. A RetryInfo is kept, so
// that ExitCodeOf knows that another try is worthwhile.
absl::Status FromGrpcStatus(const grpc::Status& status, absl::string_view address);

// The exit code of an error of any command; kExitDone for OK.
int ExitCodeOf(const absl::Status& status);

// This is the longest part that is shown of a sentence that the server said (error, warning, note).
inline constexpr size_t kMaxSentenceBytes = 512;

// `text` with control characters replaced by blanks, at most `max_bytes` long: what a server sent
// must not steer the user's terminal.
std::string Printable(absl::string_view text, size_t max_bytes);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_ERRORS_H_
