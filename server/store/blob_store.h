// Keeps content-addressed blobs on disk: shards, calibration and results, each named by sha256 and
// size.
#ifndef SALIENT_SERVER_STORE_BLOB_STORE_H_
#define SALIENT_SERVER_STORE_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/parallel/mutex.h"
#include "server/store/blob_entry.h"
#include "server/store/blob_reader.h"
#include "server/store/digest.h"
#include "server/store/file.h"
#include "server/store/layout.h"
#include "server/store/upload.h"

namespace salient {

struct BlobStoreLimits {
  // The capacity holds blobs, and uploads at their announced size.
  int64_t capacity_bytes = int64_t{64} << 30;
  // Clients began so many uploads that are not finished nor expired.
  int64_t max_uploads = 1000;
  absl::Duration upload_ttl = absl::Hours(24);  // It counts since the last byte.
  // At most so much of an upload is sent again after a restart.
  int64_t sync_interval_bytes = int64_t{64} << 20;
  // Whoever continues an upload replaces its writer if nothing came of that one for so long: a
  // client that lost its connection need not wait until that is noticed.
  absl::Duration takeover_after = absl::Seconds(5);
};

struct BlobStatus {
  int64_t committed_bytes = 0;  // An upload continues there.
  bool complete = false;        // The blob is whole, and its digest was verified.
};

struct BlobStoreUsage {
  int64_t used_bytes = 0;  // It is a part of capacity_bytes.
  int64_t blobs = 0;
  int64_t uploads = 0;
};

class ChunkSums;

// Is thread-safe. All calls but Usage and recovery may wait for a disk, or for another call on the
// same blob: call them from workers. Calls on different blobs do not wait for each other.
//
// A whole survives the process; an upload continues after a restart from what was certainly synced.
// The empty blob is always there.
//
// Several writers may send one blob. Each has a file of its own, or continues what one that is gone
// left; the first to finish with the right digest makes the blob, and nobody can spoil what another
// is sending.
//
// What is read is checked against checksums of what came (chunk_sums.h). Bytes of an earlier
// process are as they are found, until Verify has read all of them.
class BlobStore {
 public:
  // Opens the store in `directory`, which is made if only it is missing, and recovers what is
  // there. A disk that cannot hold what the limits say is remarked on in recovery(). Returns
  // FAILED_PRECONDITION if another store has it open, INVALID_ARGUMENT for a limit below 1 (names
  // it); errors of file.h.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(const std::string& directory,
                                                         const BlobStoreLimits& limits);
  // Is called after its Uploads are gone.
  ~BlobStore();
  BlobStore(const BlobStore&) = delete;
  BlobStore& operator=(const BlobStore&) = delete;

  // Returns those of `digests` that are not complete, in order.
  std::vector<Digest> FindMissing(absl::Span<const Digest> digests) const;

  // Returns what is committed, 0 of an unknown blob; of several uploads the one to go on with.
  BlobStatus Status(const Digest& digest) const;

  // A blob that is made here does not wait for clients to finish their uploads.
  enum class Maker { kClient, kServer };

  // Begins an upload, or continues one that has committed `offset_bytes` and no writer, or one of
  // which nothing came for takeover_after, who is then ABORTED at its next call. nullopt: continues
  // the best there is, or begins. At 0, and always for kServer, it may be a new one beside others.
  //
  // Returns ALREADY_EXISTS if the blob is complete; OUT_OF_RANGE if no upload stands at
  // `offset_bytes`; ABORTED if one does whose writer is at work; RESOURCE_EXHAUSTED if store or
  // disk has no room or a client begins too many; INVALID_ARGUMENT if the blob is larger than the
  // store.
  absl::StatusOr<Upload> BeginUpload(const Digest& digest, Maker maker = Maker::kClient,
                                     std::optional<int64_t> offset_bytes = std::nullopt);

  // Returns INVALID_ARGUMENT for a blob that is larger than the whole store.
  absl::Status CheckSize(const Digest& digest) const;

  // Stores a whole made here, whoever uploads the same blob meanwhile. Ok if it was there before.
  absl::StatusOr<Digest> Put(absl::string_view content);

  // Is a whole and its digest, which is the caller's word.
  struct Whole {
    Digest digest;
    absl::string_view content;
  };
  // Puts all or none, synced together, which is cheaper than one by one.
  absl::Status PutAll(absl::Span<const Whole> wholes);

  // Reads `limit_bytes` from `offset_bytes`, 0: to the end; more than there is: to the end. Returns
  // NOT_FOUND; INVALID_ARGUMENT for a negative number; OUT_OF_RANGE for an offset beyond the end;
  // DATA_LOSS if the file has another size. What is read is checked, as BlobReader says.
  absl::StatusOr<BlobReader> Read(const Digest& digest, int64_t offset_bytes = 0,
                                  int64_t limit_bytes = 0);

  // Reads what was committed so far, whether the blob is complete or not: OUT_OF_RANGE if not all
  // of [offset_bytes, offset_bytes + limit_bytes) is there. Nobody has verified it, and of several
  // uploads it is one's: FindAgreeing says in the end whether it was the blob.
  absl::StatusOr<BlobReader> ReadCommitted(const Digest& digest, int64_t offset_bytes,
                                           int64_t limit_bytes);

  // Returns whether this process has seen that the whole has its digest: when it was uploaded or
  // made, or by Verify. What was and will be read of it is then checked.
  bool IsVerified(const Digest& digest) const;

  // Reads all of a blob. Returns DATA_LOSS if it no longer has its digest: it is then moved to
  // quarantine and missing from now on. NOT_FOUND. `proceed` is asked again and again; its error
  // ends it.
  absl::Status Verify(const Digest& digest, absl::FunctionRef<absl::Status()> proceed);
  absl::Status Verify(const Digest& digest);

  // Returns the sums of the blob, or of the upload of it to go on with, if what was read through
  // `sums` of another upload are its bytes, too; null if not. Reads it. Its errors are those of
  // Read.
  absl::StatusOr<std::shared_ptr<ChunkSums>> FindAgreeing(const Digest& digest,
                                                          const ChunkSums& sums);

  // Forgets a blob or an upload. Readers of it go on, its writer is ABORTED. NOT_FOUND.
  absl::Status Delete(const Digest& digest);

  // Deletes uploads that got neither a byte nor a new writer for upload_ttl; one in the middle of
  // a call stays. Returns how many went, or the first error.
  absl::StatusOr<int64_t> ExpireUploads(absl::Time now);

  BlobStoreUsage Usage() const;
  // Returns the limits given to Open, with capacity_bytes at most the size of the disk.
  const BlobStoreLimits& limits() const { return limits_; }

  // Returns what Open found.
  const RecoveryReport& recovery() const { return recovery_; }

 private:
  friend class Upload;
  friend class BlobReader;
  using EntryPtr = std::shared_ptr<BlobEntry>;
  using PartPtr = std::shared_ptr<BlobPart>;

  BlobStore(Layout layout, const BlobStoreLimits& limits, RecoveryReport recovery);
  EntryPtr Find(const Digest& digest) const;
  // Returns an entry that may be gone when it is locked.
  EntryPtr FindOrAdd(const Digest& digest);
  absl::Status CheckRoom(const Digest& digest, Maker maker) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Opens a blob, which must have the size that its name says.
  absl::StatusOr<File> OpenBlob(BlobEntry& entry);
  // Removes the blob or the upload that has these sums: what was read of it is not what came.
  void TakeOut(BlobEntry& entry, const ChunkSums& sums);

  // Holds what is done with one blob of PutAll.
  struct Putting;

  absl::Status BeginPut(Putting& put);
  absl::Status SyncPut(Putting& put);
  absl::Status CommitPut(Putting& put);
  absl::Status PutLocked(Putting& put);
  absl::Status WritePut(Putting& put, const EntryPtr& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry->mu);
  void TakeBack(Putting& put);

  absl::StatusOr<PartPtr> FindPart(BlobEntry& entry, std::optional<int64_t> offset_bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  absl::StatusOr<PartPtr> AddPart(BlobEntry& entry, Maker maker)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  absl::Status TakeRoom(BlobEntry& entry, Maker maker) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  absl::Status OpenForWriter(BlobEntry& entry, BlobPart& part)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  void CloseForWriter(BlobEntry& entry, BlobPart& part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  absl::Status Reject(BlobEntry& entry, BlobPart& part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  // Discards the part, and the entry with the last one.
  absl::Status Discard(BlobEntry& entry, const BlobPart& part)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  absl::Status RemovePart(BlobEntry& entry, const BlobPart& part)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  void ForgetPart(BlobEntry& entry, const BlobPart& part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  // Commits the part; it is durable after Layout::SyncCommits.
  absl::Status Commit(BlobEntry& entry, BlobPart& part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  absl::Status Remove(BlobEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  void Quarantine(BlobEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);
  // Forgets an entry without parts.
  void Forget(BlobEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu);

  Layout layout_;
  const BlobStoreLimits limits_;
  RecoveryReport recovery_;  // Open alone writes it.

  mutable Mutex mu_;  // It is never held while a disk works.
  absl::flat_hash_map<Digest, EntryPtr> entries_ ABSL_GUARDED_BY(mu_);
  BlobStoreUsage usage_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_BLOB_STORE_H_
