// Says of a group's header alone whether it can be quantized and what memory that takes.
#ifndef SALIENT_SERVER_CALLS_GROUP_CHECK_H_
#define SALIENT_SERVER_CALLS_GROUP_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/statistics/statistics.h"
#include "server/calls/call_limits.h"
#include "server/calls/call_messages.h"

namespace salient {

// Errors carry reason and field (call_error.h): BAD_HEADER for a name, size or head count,
// DUPLICATE_NAME for a Linear that stands twice in the group, BAD_SHAPE or UNSUPPORTED from
// ValidateLinear, each naming the Linear and the value.
absl::Status CheckGroup(const GroupSpec& spec, const CallOptions& options,
                        const CallLimits& limits);

// Returns the parameters of the statistics that `spec` is calibrated with.
StatisticsParams StatisticsParamsOf(const GroupSpec& spec, const CallOptions& options);

// Bytes the group holds at most from its header to its result: weights, statistics and the
// work of QuantizeGroup with `concurrency` threads. `spec` has passed CheckGroup.
//
// Returns RESOURCE_EXHAUSTED with reason MEMORY, naming needed and allowed bytes, if a call may
// never hold so much.
absl::StatusOr<int64_t> GroupMemoryBytes(const GroupSpec& spec, const CallOptions& options,
                                         const CallLimits& limits, int concurrency);

// Returns RESOURCE_EXHAUSTED, MEMORY: `what` (a group or file and what it is of) needs more than is
// allowed.
absl::Status TooMuchMemory(absl::string_view what, int64_t needed, int64_t allowed);

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_GROUP_CHECK_H_
