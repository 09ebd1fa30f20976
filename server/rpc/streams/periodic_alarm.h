// A clock for streams: gRPC's alarm, rung again and again.
#ifndef SALIENT_SERVER_RPC_STREAMS_PERIODIC_ALARM_H_
#define SALIENT_SERVER_RPC_STREAMS_PERIODIC_ALARM_H_

#include <grpcpp/alarm.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace salient {

// Is thread-safe. It is held by shared_ptr, because a ring may be under way when its owner goes:
// `ring` must hold what it touches, weakly if that is the owner.
class PeriodicAlarm : public std::enable_shared_from_this<PeriodicAlarm> {
 public:
  // `ring` runs on a thread of gRPC and must not block.
  PeriodicAlarm(absl::Duration period, absl::AnyInvocable<void()> ring)
      : period_(period), ring_(std::move(ring)) {}

  // Rings first after one period.
  void Start() { Arm(); }

  // Stops it, and never waits. A ring that has begun goes on, none begins after it.
  void Stop();

 private:
  void Arm();

  const absl::Duration period_;
  absl::AnyInvocable<void()> ring_;
  absl::Mutex mu_;
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mu_);
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

// Returns how often to look at a clock that may run for `limit`.
absl::Duration PeriodFor(absl::Duration limit);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_STREAMS_PERIODIC_ALARM_H_
