// Ends what a TensorCall waits for no longer: memory, messages, a client that reads.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/parallel/mutex.h"
#include "server/calls/tensor_call.h"
#include "server/error/call_error.h"

namespace salient {

void TensorCall::Tick(absl::Time now) {
  absl::Status overdue;
  {
    const MutexLock lock(mu_);
    if (ended_) return;
    overdue = Overdue(now);
  }
  if (!overdue.ok()) {
    End(overdue);
  } else {
    RetryBlocked();
  }
}

absl::Status TensorCall::Overdue(absl::Time now) const {
  const auto not_reading = [](absl::Duration waited) {
    return CallError(
        absl::StatusCode::kAborted, Reason::kClientNotReading,
        absl::StrCat("results have waited for ", absl::FormatDuration(waited),
                     " and nobody reads them; expected the client to read while it writes"));
  };
  if (blocked_.has_value() && blocked_->by_call) {
    const absl::Time since = std::max(blocked_->since, last_progress_);
    if (!results_.empty() && now - since > limits_.not_reading_timeout) {
      return not_reading(limits_.not_reading_timeout);
    }
    return absl::OkStatus();
  }
  if (blocked_.has_value()) {
    if (now - blocked_->since <= limits_.memory_wait) return absl::OkStatus();
    absl::Status status =
        CallError(absl::StatusCode::kResourceExhausted, Reason::kBusy,
                  absl::StrCat("no room for ", blocked_->bytes, " bytes within ",
                               absl::FormatDuration(limits_.memory_wait), ": of ",
                               shared_.memory.limit_bytes(), " bytes for all calls ",
                               shared_.memory.reserved_bytes(), " are in use; try again later"));
    return WithQuota(WithRetryAfter(std::move(status), limits_.memory_wait), "memory_bytes");
  }
  if (!results_.empty()) {
    if (now - last_progress_ > limits_.idle_timeout) return not_reading(limits_.idle_timeout);
    return absl::OkStatus();
  }
  const bool ours = !reading_ || taking_ || quantizing_ || !inbox_.empty() || !closed_.empty();
  if (!ours && now - std::max(last_message_, last_progress_) > limits_.idle_timeout) {
    return CallError(
        absl::StatusCode::kAborted, Reason::kClientIdle,
        absl::StrCat("no message came for ", absl::FormatDuration(limits_.idle_timeout),
                     "; expected the next one or the end of the stream"));
  }
  return absl::OkStatus();
}

}  // namespace salient
