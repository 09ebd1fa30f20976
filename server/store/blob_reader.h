// A run of a blob's bytes, read in order or anywhere.
#ifndef SALIENT_SERVER_STORE_BLOB_READER_H_
#define SALIENT_SERVER_STORE_BLOB_READER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/store/file.h"

namespace salient {

class BlobStore;
class ChunkSums;
struct BlobEntry;

// Reads what stood in the blob when it was opened, also when it was deleted since. Borrows the
// store. It is move-only. Calls block.
//
// What is read is checked against the checksums of what came, if that was in this process; else it
// is settled by it. Returns DATA_LOSS, naming blob and bytes, if they are others, or the file is
// shorter: the blob, or the upload, is then taken out of the store. Returns ABORTED if the upload
// is written anew.
class BlobReader {
 public:
  // Makes a reader of the empty blob.
  BlobReader() = default;

  // Returns the next bytes of the run, at most `max_bytes` >= 1; empty at its end. It is not
  // thread-safe.
  absl::StatusOr<std::string> Next(int64_t max_bytes);

  // Fills `bytes` from `offset_bytes`, counted from the start of the blob, which must lie before
  // the end of the run. Returns OUT_OF_RANGE, DATA_LOSS or ABORTED. It is thread-safe.
  absl::Status ReadAt(int64_t offset_bytes, absl::Span<char> bytes) const;

  // Returns the sums of what is read; null of the empty blob.
  const std::shared_ptr<ChunkSums>& sums() const { return sums_; }
  int64_t next_offset() const { return next_; }
  int64_t end_offset() const { return end_; }

 private:
  friend class BlobStore;
  // Reads [begin, end) of `file`.
  BlobReader(BlobStore* store, std::shared_ptr<BlobEntry> entry, std::shared_ptr<ChunkSums> sums,
             File file, int64_t begin, int64_t end)
      : store_(store),
        entry_(std::move(entry)),
        sums_(std::move(sums)),
        file_(std::move(file)),
        next_(begin),
        end_(end) {}

  BlobStore* store_ = nullptr;
  std::shared_ptr<BlobEntry> entry_;
  std::shared_ptr<ChunkSums> sums_;
  File file_;
  int64_t next_ = 0;
  int64_t end_ = 0;
};

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_BLOB_READER_H_
