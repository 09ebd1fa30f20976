// Refuses calls when the server stops, and knows when those before are over.
#ifndef SALIENT_SERVER_RPC_UNARY_DRAIN_GATE_H_
#define SALIENT_SERVER_RPC_UNARY_DRAIN_GATE_H_

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace salient {

// Is thread-safe and outlives its passes.
class DrainGate {
 public:
  // Held by a call that is inside.
  using Pass = std::shared_ptr<void>;

  // Returns UNAVAILABLE, DRAINING, with a retry delay, after Drain.
  absl::StatusOr<Pass> Enter();

  // Lets nobody enter from now on.
  void Drain();

  // Waits until nobody is inside. False if that took longer than `timeout`.
  bool WaitUntilEmpty(absl::Duration timeout);

 private:
  absl::Mutex mu_;
  int64_t inside_ ABSL_GUARDED_BY(mu_) = 0;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_UNARY_DRAIN_GATE_H_
