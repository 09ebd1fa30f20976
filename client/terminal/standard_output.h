// Writes a command's answer. What it says on the way goes to standard error.
#ifndef SALIENT_CLIENT_TERMINAL_STANDARD_OUTPUT_H_
#define SALIENT_CLIENT_TERMINAL_STANDARD_OUTPUT_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace salient::client {

// Writes all of `text` to standard output. Returns INTERNAL if that takes no more, as on a full
// disk; CANCELLED if nobody reads it any more.
absl::Status WriteOutput(absl::string_view text);

// Returns whether WriteOutput was called: standard output holds one answer.
bool OutputWritten();

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TERMINAL_STANDARD_OUTPUT_H_
