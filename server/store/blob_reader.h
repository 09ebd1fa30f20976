// A run of a blob's bytes, read in order or anywhere.
#ifndef SALIENT_SERVER_STORE_BLOB_READER_H_
#define SALIENT_SERVER_STORE_BLOB_READER_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/store/file.h"

namespace salient {

// Outlives the store and the blob's deletion. Move-only. Calls block.
class BlobReader {
 public:
  BlobReader() = default;  // of the empty blob
  // [begin, end) of `file`.
  BlobReader(File file, int64_t begin, int64_t end)
      : file_(std::move(file)), next_(begin), end_(end) {}

  // The next bytes of the run, at most `max_bytes` >= 1; empty at its end. DATA_LOSS if the file
  // is shorter than it was. Not thread-safe.
  absl::StatusOr<std::string> Next(int64_t max_bytes);

  // Fills `bytes` from `offset_bytes`, counted from the start of the blob, which must lie before
  // the end of the run. OUT_OF_RANGE, DATA_LOSS. Thread-safe.
  absl::Status ReadAt(int64_t offset_bytes, absl::Span<char> bytes) const;

  int64_t next_offset() const { return next_; }
  int64_t end_offset() const { return end_; }

 private:
  File file_;
  int64_t next_ = 0;
  int64_t end_ = 0;
};

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_BLOB_READER_H_
