// Results of a call that wait to be sent, cut into chunks as they leave.
#ifndef SALIENT_SERVER_CALLS_RESULT_QUEUE_H_
#define SALIENT_SERVER_CALLS_RESULT_QUEUE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "core/group/quantize_group.h"
#include "proto/wire/chunk.h"
#include "server/workers/memory_budget.h"

namespace salient {

// Holds a group's result on its way out.
struct FinishedGroup {
  GroupResult result;
  absl::Duration elapsed;  // It runs from the end of the group's input to its result.
};

// Bytes of its scales and tensors.
int64_t ResultBytes(const GroupResult& result);

// One thing to send: the head of a group's result, or a part of one of its tensors.
struct OutgoingResult {
  std::shared_ptr<const FinishedGroup> group;
  std::optional<int32_t> tensor_index;  // It is unset for the head.
  ByteRange range;                      // It is that of the tensor's bytes.
};

// Gives groups out in the order in which they came. A group and the memory it holds stay until its
// last chunk was sent. It is not thread-safe.
class ResultQueue {
 public:
  struct Entry {
    MemoryHold hold;
    std::shared_ptr<const FinishedGroup> group;
  };

  void Push(Entry entry) { entries_.push_back(std::move(entry)); }
  bool empty() const { return entries_.empty(); }

  // Returns the head, chunks of 1 MiB, the next group's head and so on; nullopt when empty. Calling
  // it says that what it returned before was sent; groups that are thereby through go to `sent`,
  // for the caller to free where it likes.
  std::optional<OutgoingResult> Next(std::vector<Entry>& sent);

 private:
  std::deque<Entry> entries_;
  // Sending stands here in the first entry.
  bool head_sent_ = false;
  size_t tensor_ = 0;
  int64_t offset_ = 0;
};

}  // namespace salient

#endif  // SALIENT_SERVER_CALLS_RESULT_QUEUE_H_
