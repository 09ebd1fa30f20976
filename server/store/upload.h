// Writes one blob.
#ifndef SALIENT_SERVER_STORE_UPLOAD_H_
#define SALIENT_SERVER_STORE_UPLOAD_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/store/blob_entry.h"
#include "server/store/digest.h"

namespace salient {

class BlobStore;

// Is one writer of one blob. If it is dropped without Finish, what was committed stays for the next
// one. It is move-only, not thread-safe, and borrows the store. All calls, and dropping it, block
// as those of BlobStore do.
class Upload {
 public:
  Upload(Upload&& other) noexcept = default;
  Upload& operator=(Upload&& other) noexcept;
  ~Upload();

  // Appends `data`, all or nothing. On error the upload may be continued, except after the last
  // two:
  //   OUT_OF_RANGE        `offset_bytes` is not committed_bytes()
  //   INVALID_ARGUMENT    `data` reaches beyond the announced size
  //   RESOURCE_EXHAUSTED  the disk is full
  //   ABORTED             another writer continues it, or it was deleted
  //   ALREADY_EXISTS      the blob is complete: another upload of it was
  absl::Status Append(int64_t offset_bytes, absl::string_view data);

  // Hashes at most `max_bytes` of what an earlier process wrote and returns how much is left for
  // the next call, of this writer or of one after it. Finish does the rest at once, and holds up
  // whoever waits for it or for this blob. Returns DATA_LOSS, ABORTED and ALREADY_EXISTS as Finish.
  absl::StatusOr<int64_t> HashMore(int64_t max_bytes);

  // Makes the blob complete, durably. Returns INVALID_ARGUMENT if bytes are missing (the upload may
  // be continued), or if the whole does not have the digest: what this writer sent is discarded,
  // and what writers before it sent if that was so once before. Returns DATA_LOSS if the disk lost
  // what an earlier process wrote: the upload is discarded. Returns ABORTED, ALREADY_EXISTS.
  absl::Status Finish();

  // Removes what was written of this upload, if nobody else continues it.
  void Discard();

  // Returns where the next byte goes.
  int64_t committed_bytes() const;
  const Digest& digest() const;

 private:
  friend class BlobStore;
  Upload(BlobStore* store, std::shared_ptr<BlobEntry> entry, std::shared_ptr<BlobPart> part);
  absl::Status CheckWriter() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry_->mu);
  // Discards what the disk lost, and tells so.
  absl::Status NotHashed(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry_->mu);
  void Release();

  BlobStore* store_;
  std::shared_ptr<BlobEntry> entry_;
  std::shared_ptr<BlobPart> part_;
  int64_t writer_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_UPLOAD_H_
