// Says how a tensor, file or blob is cut into chunks: the sizes both ends keep to and the
// arithmetic of offsets.
#ifndef SALIENT_PROTO_WIRE_CHUNK_H_
#define SALIENT_PROTO_WIRE_CHUNK_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace salient {

// One gRPC message is at most this long.
inline constexpr int64_t kMaxMessageBytes = int64_t{4} << 20;
// The data of one chunk is at most this long.
inline constexpr int64_t kMaxChunkBytes = int64_t{2} << 20;
// A sender of ours cuts chunks of this size.
inline constexpr int64_t kChunkBytes = int64_t{1} << 20;

// Holds a run of bytes [offset, offset + size).
struct ByteRange {
  int64_t offset = 0;
  int64_t size = 0;
  bool operator==(const ByteRange&) const = default;
};

// Returns the chunk that begins at `offset` of a whole of `total_bytes`: at most `chunk_bytes`,
// shorter at the end, empty at or after it.
ByteRange ChunkAt(int64_t total_bytes, int64_t offset, int64_t chunk_bytes = kChunkBytes);

// Returns rows * cols * element_bytes, or nullopt if a factor is negative or the product does not
// fit.
std::optional<int64_t> CheckedBytes(int64_t rows, int64_t cols, int64_t element_bytes);

// Knows how much of a whole has arrived. Chunks come in order and without holes. It is not
// thread-safe.
class ChunkCursor {
 public:
  explicit ChunkCursor(int64_t total_bytes) : total_bytes_(total_bytes) {}

  // Takes the chunk `range` of the whole called `name`. On error nothing changes:
  // OUT_OF_RANGE if it does not begin at next_offset(), INVALID_ARGUMENT if it reaches beyond
  // the end or is larger than kMaxChunkBytes. Each names `name`, the value and what was expected.
  absl::Status Take(absl::string_view name, const ByteRange& range);

  int64_t next_offset() const { return next_offset_; }
  int64_t total_bytes() const { return total_bytes_; }
  bool complete() const { return next_offset_ == total_bytes_; }

 private:
  int64_t total_bytes_;
  int64_t next_offset_ = 0;
};

}  // namespace salient

#endif  // SALIENT_PROTO_WIRE_CHUNK_H_
