// Says what one QuantizeTensors call may use and how long it may keep others waiting.
#ifndef SALIENT_SERVER_CALLS_CALL_LIMITS_H_
#define SALIENT_SERVER_CALLS_CALL_LIMITS_H_

#include <cstdint>

#include "absl/time/time.h"

namespace salient {

inline constexpr int64_t kMaxNameBytes = 512;  // It limits the name of a group or a Linear.

struct CallLimits {
  // Weights, statistics and working memory of the groups inside, and results that wait.
  int64_t call_memory_bytes = int64_t{2} << 30;
  int64_t max_linears_per_group = 1024;
  int64_t max_features = int64_t{1} << 18;  // It limits in_features and out_features.

  // A call ends so long after the last message while one is waited for: ABORTED, CLIENT_IDLE.
  // Results also wait so long for a client that is owed nothing else.
  absl::Duration idle_timeout = absl::Seconds(600);
  // A call ends when nobody reads results for so long while its memory is full: ABORTED,
  // CLIENT_NOT_READING.
  absl::Duration not_reading_timeout = absl::Seconds(30);
  // A group is refused when the memory of all calls together is full for so long:
  // RESOURCE_EXHAUSTED, BUSY.
  absl::Duration memory_wait = absl::Seconds(30);
};

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_CALL_LIMITS_H_
