#include "server/calls/result_queue.h"

#include <utility>

#include "core/tensor/named_tensor.h"

namespace salient {

int64_t ResultBytes(const GroupResult& result) {
  int64_t bytes = static_cast<int64_t>(result.scales.size() * sizeof(float));
  for (const NamedTensor& tensor : result.tensors) {
    bytes += static_cast<int64_t>(tensor.data.size());
  }
  return bytes;
}

std::optional<OutgoingResult> ResultQueue::Next(std::vector<Entry>& sent) {
  while (!entries_.empty()) {
    const std::shared_ptr<const FinishedGroup>& group = entries_.front().group;
    if (!std::exchange(head_sent_, true)) return OutgoingResult{group, std::nullopt, {}};
    const std::vector<NamedTensor>& tensors = group->result.tensors;
    while (tensor_ < tensors.size()) {
      const int64_t total = static_cast<int64_t>(tensors[tensor_].data.size());
      const ByteRange range = ChunkAt(total, offset_);
      if (range.size > 0) {
        offset_ += range.size;
        return OutgoingResult{group, static_cast<int32_t>(tensor_), range};
      }
      ++tensor_;
      offset_ = 0;
    }
    sent.push_back(std::move(entries_.front()));
    entries_.pop_front();
    head_sent_ = false;
    tensor_ = 0;
  }
  return std::nullopt;
}

}  // namespace salient
