// Leads from what went wrong to what the user reads and what the shell sees.
#ifndef SALIENT_CLIENT_TERMINAL_ERRORS_H_
#define SALIENT_CLIENT_TERMINAL_ERRORS_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/support/status.h"

namespace salient::client {

// These are the exit codes of every command. A batch scheduler may rely on them: a retry is
// worthwhile after 69 and 75, useless after 2 and 42, and against somebody's will after 76.
inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitBadInput = 42;
inline constexpr int kExitUnavailable = 69;  // No server there, or it went away.
inline constexpr int kExitDefect = 70;       // Neither the input nor the load: disk or a defect.
inline constexpr int kExitTryAgain = 75;     // The server is well, but full or draining.
inline constexpr int kExitCancelled = 76;    // Somebody else cancelled the job.
inline constexpr int kExitInterrupted = 130;

// Returns the outcome of a call to the server at `address`, with the same code. The message is one
// sentence of printable text, at most 2 KiB: the server's own, then what its google.rpc details
// (ErrorInfo, BadRequest, QuotaFailure) add to it. OK stays OK. Reason and RetryInfo are kept, for
// ExitCodeOf, ReasonOf and RetryAfter.
absl::Status FromGrpcStatus(const grpc::Status& status, absl::string_view address);

// Says that somebody else cancelled `job`. The exit code is kExitCancelled.
absl::Status CancelledByOthers(absl::string_view job);

// Says that the command line is at fault. The exit code is kExitUsage.
absl::Status UsageError(absl::string_view message);

// Returns `status` with another message and with all its payloads.
absl::Status WithMessage(const absl::Status& status, absl::string_view message);

// Returns `status` with `text` appended to its message.
absl::Status WithText(const absl::Status& status, absl::string_view text);

// Returns `status` of a server in this process, which nobody else uses. If waiting changes nothing,
// it no longer says that another try is worthwhile. A full disk is INTERNAL.
absl::Status WithoutOthers(const absl::Status& status);

// Returns the reason that a server gave; nullopt if none did.
std::optional<std::string> ReasonOf(const absl::Status& status);

// Returns how long to wait if a server says that another try is worthwhile; else nullopt.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

// Returns what people read: the message, and when to try again.
std::string ErrorText(const absl::Status& status);

// Returns {error: {code, reason?, message, retry_after_seconds?, exit_code}}.
std::string ErrorJson(const absl::Status& status, int exit_code);

// Returns the exit code of an error of any command; kExitDone for OK.
int ExitCodeOf(const absl::Status& status);

// This is the longest part that is shown of a sentence that the server said (error, warning, note).
inline constexpr size_t kMaxSentenceBytes = 512;

// Returns `text` with control characters replaced by blanks, at most `max_bytes` long: what a
// server sent must not steer the user's terminal.
std::string Printable(absl::string_view text, size_t max_bytes);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TERMINAL_ERRORS_H_
