// Holds the bytes of one upload: written in order, synced at fixed boundaries, hashed on the way.
#ifndef SALIENT_SERVER_STORE_PARTIAL_BLOB_H_
#define SALIENT_SERVER_STORE_PARTIAL_BLOB_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/wire/sha256.h"
#include "server/store/chunk_sums.h"
#include "server/store/digest.h"
#include "server/store/file.h"
#include "server/store/layout.h"

namespace salient {

// A file is never written beyond a multiple of `sync_interval_bytes` before all up to it was
// synced. Hence after a crash its length alone tells what survived: SyncedBytes.
//
// It is not thread-safe, except committed_bytes(). Calls block.
class PartialBlob {
 public:
  // `number` is that of the file among those of this blob, `written_bytes` the length that an
  // earlier process left it with; 0: none.
  PartialBlob(const Digest& digest, int number, int64_t sync_interval_bytes, int64_t written_bytes);

  // Returns the part of a file of `written_bytes` that is certainly on disk: whole intervals, the
  // last of which only if there is more behind it.
  static int64_t SyncedBytes(int64_t written_bytes, int64_t sync_interval_bytes);

  // Opens or makes the file and reserves space for what is missing. Returns RESOURCE_EXHAUSTED if
  // the disk has no room; what was committed stays.
  absl::Status Open(const Layout& layout);
  void Close();

  // Appends at committed_bytes(), all of `data` or nothing: RESOURCE_EXHAUSTED when the disk is
  // full. If a sync fails, committed_bytes() falls back to what was synced before. Requires an
  // open file and room for `data` in the announced size.
  absl::Status Append(absl::string_view data);

  // Writes the whole, whose digest the caller computed, into an empty file.
  absl::Status WriteWhole(absl::string_view content);
  absl::Status Sync();

  // Reads and hashes at most `max_bytes` of what was not hashed when it was written, because an
  // earlier process wrote it, and returns how much is left. Returns DATA_LOSS if that is no longer
  // what somebody read of it before.
  absl::StatusOr<int64_t> HashMore(int64_t max_bytes);

  // Syncs, and computes the digest of all committed bytes. It does first what HashMore left.
  absl::StatusOr<Digest> Finish();

  // Forgets committed bytes beyond the first `size_bytes`; what is read of them now is ABORTED.
  // Requires an open file.
  void FallBackTo(int64_t size_bytes);

  int64_t committed_bytes() const { return committed_bytes_.load(std::memory_order_acquire); }
  int number() const { return number_; }
  // Returns the sums by which the bytes are read; others after a fall back.
  const std::shared_ptr<ChunkSums>& sums() const { return sums_; }

 private:
  int64_t hashed_bytes() const { return sha256_.has_value() ? sha256_->size_bytes() : 0; }
  absl::Status Write(absl::string_view data);

  const Digest digest_;
  const int number_;
  const int64_t sync_interval_bytes_;
  File file_;
  std::atomic<int64_t> committed_bytes_;
  int64_t written_bytes_;  // It equals committed_bytes() between calls.
  int64_t synced_bytes_;
  int64_t handed_bytes_ = 0;      // They went to the disk, at least in part.
  std::optional<Sha256> sha256_;  // It is that of the first hashed_bytes().
  std::shared_ptr<ChunkSums> sums_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_PARTIAL_BLOB_H_
