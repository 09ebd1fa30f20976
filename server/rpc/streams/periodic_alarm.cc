#include "server/rpc/streams/periodic_alarm.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace salient {

void PeriodicAlarm::Arm() {
  // The one before goes when the lock is free: an alarm that is destroyed may run its callback.
  auto alarm = std::make_unique<grpc::Alarm>();
  grpc::Alarm* const armed = alarm.get();
  absl::MutexLock lock(&mu_);
  if (stopped_) return;
  std::swap(alarm, alarm_);
  armed->Set(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(period_),
             [self = shared_from_this()](bool expired) {
               if (!expired) return;
               self->ring_();
               self->Arm();
             });
}

void PeriodicAlarm::Stop() {
  std::unique_ptr<grpc::Alarm> alarm;
  absl::MutexLock lock(&mu_);
  stopped_ = true;
  alarm = std::move(alarm_);
}

absl::Duration PeriodFor(absl::Duration limit) {
  return std::clamp(limit / 10, absl::Milliseconds(10), absl::Seconds(5));
}

}  // namespace salient
