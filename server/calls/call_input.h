// The grammar of a QuantizeTensors call: options, then groups, each opened, filled and ended.
//
//   call  := options group+
//   group := header (weight | activations | statistics)* end_group
#ifndef SALIENT_SERVER_CALLS_CALL_INPUT_H_
#define SALIENT_SERVER_CALLS_CALL_INPUT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/parallel/executor.h"
#include "server/calls/call_limits.h"
#include "server/calls/call_messages.h"
#include "server/calls/open_group.h"

namespace salient {

// Is not thread-safe. For each message call MemoryBytes, reserve, and call Take. After an error it
// is unusable. Errors carry reason and field (call_error.h).
class CallInput {
 public:
  // Says what a message led to.
  struct Taken {
    int64_t tokens = 0;                 // They were folded.
    bool opened_group = false;          // The reservation belongs to the group.
    bool merged_statistics = false;     // The reservation of the file may go, but for kept_bytes.
    int64_t kept_bytes = 0;             // The group holds so much because of it.
    std::optional<ClosedGroup> closed;  // The group is whole.
  };

  // Starts a call whose groups `concurrency` threads quantize.
  CallInput(const CallLimits& limits, int concurrency)
      : limits_(limits), concurrency_(concurrency) {}

  // Checks that `message` may come now and, as far as its header alone tells, is right. Returns
  // the bytes to reserve before it is taken, mostly 0.
  absl::StatusOr<int64_t> MemoryBytes(const CallMessage& message) const;

  // Takes a message that passed MemoryBytes.
  absl::StatusOr<Taken> Take(CallMessage message, Executor& executor);

  // Ends the input: the client has sent all. Returns MESSAGE_ORDER if a group is open or none came.
  absl::Status End() const;

  // Returns the options once they came.
  const std::optional<CallOptions>& options() const { return options_; }

 private:
  absl::Status CheckOrder(const CallMessage& message) const;
  absl::StatusOr<int64_t> GroupBytes(const GroupSpec& spec) const;
  absl::StatusOr<Taken> Open(GroupSpec spec);

  const CallLimits limits_;
  const int concurrency_;
  std::optional<CallOptions> options_;
  std::optional<OpenGroup> group_;
  absl::flat_hash_set<std::string> group_names_;
  absl::flat_hash_set<std::string> linear_names_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_CALL_INPUT_H_
