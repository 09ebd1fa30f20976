// Finds out, as a client does, whether a new connection is answered.
#ifndef SALIENT_SERVER_LISTEN_SELF_CHECK_H_
#define SALIENT_SERVER_LISTEN_SELF_CHECK_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace salient {

// Connects to "HOST:PORT", greets as a client of HTTP/2 and waits for any answer. A connection that
// is closed was answered, too: that is how one too many is refused. DEADLINE_EXCEEDED if nothing
// comes within `timeout`; errors as BeginConnect, of which RESOURCE_EXHAUSTED says nothing about
// who listens.
absl::Status CheckAnswered(absl::string_view address, absl::Duration timeout);

}  // namespace salient

#endif  // SALIENT_SERVER_LISTEN_SELF_CHECK_H_
