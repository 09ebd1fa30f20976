#include "server/rpc/unary/drain_gate.h"

#include "server/error/call_error.h"

namespace salient {

absl::StatusOr<DrainGate::Pass> DrainGate::Enter() {
  {
    absl::MutexLock lock(&mu_);
    if (draining_) {
      return WithRetryAfter(CallError(absl::StatusCode::kUnavailable, Reason::kDraining,
                                      "the server is stopping; expected another one to be tried"),
                            absl::Seconds(1));
    }
    ++inside_;
  }
  return Pass(this, [](DrainGate* gate) {
    absl::MutexLock lock(&gate->mu_);
    --gate->inside_;
  });
}

void DrainGate::Drain() {
  absl::MutexLock lock(&mu_);
  draining_ = true;
}

bool DrainGate::WaitUntilEmpty(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return inside_ == 0; };
  return mu_.AwaitWithTimeout(absl::Condition(&empty), timeout);
}

}  // namespace salient
