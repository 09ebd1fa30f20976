// Stops the work of one call from outside.
#ifndef SALIENT_SERVER_WORKERS_CANCEL_TOKEN_H_
#define SALIENT_SERVER_WORKERS_CANCEL_TOKEN_H_

#include <atomic>

#include "absl/status/status.h"

namespace salient {

// Is thread-safe. The first stop counts.
class CancelToken {
 public:
  void Cancel() { Stop(State::kCancelled); }
  void Expire() { Stop(State::kExpired); }

  bool stopped() const { return state_.load(std::memory_order_acquire) != State::kRunning; }

  // Returns OK while work may go on, else CANCELLED or DEADLINE_EXCEEDED.
  absl::Status Check() const {
    switch (state_.load(std::memory_order_acquire)) {
      case State::kRunning:
        return absl::OkStatus();
      case State::kCancelled:
        return absl::CancelledError("the call was cancelled");
      case State::kExpired:
        return absl::DeadlineExceededError("the call's deadline passed");
    }
    return absl::OkStatus();
  }

 private:
  enum class State { kRunning, kCancelled, kExpired };

  void Stop(State state) {
    State expected = State::kRunning;
    state_.compare_exchange_strong(expected, state, std::memory_order_acq_rel);
  }

  std::atomic<State> state_{State::kRunning};
};

}  // namespace salient

#endif  // SALIENT_SERVER_WORKERS_CANCEL_TOKEN_H_
