#include "proto/wire/chunk.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace salient {

ByteRange ChunkAt(int64_t total_bytes, int64_t offset, int64_t chunk_bytes) {
  return {offset, std::clamp<int64_t>(total_bytes - offset, 0, chunk_bytes)};
}

std::optional<int64_t> CheckedBytes(int64_t rows, int64_t cols, int64_t element_bytes) {
  if (rows < 0 || cols < 0 || element_bytes < 0) return std::nullopt;
  int64_t elements = 0;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(rows, cols, &elements) ||
      __builtin_mul_overflow(elements, element_bytes, &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

absl::Status ChunkCursor::Take(absl::string_view name, const ByteRange& range) {
  if (range.offset != next_offset_) {
    return absl::OutOfRangeError(absl::StrCat(name, ": chunk at offset ", range.offset,
                                              "; expected the next offset, ", next_offset_));
  }
  if (range.size > kMaxChunkBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": chunk of ", range.size, " bytes; expected at most ", kMaxChunkBytes));
  }
  if (range.size > total_bytes_ - next_offset_) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": chunk of ", range.size, " bytes at offset ", range.offset,
                     " reaches beyond the end; expected ", total_bytes_, " bytes in all"));
  }
  next_offset_ += range.size;
  return absl::OkStatus();
}

}  // namespace salient
