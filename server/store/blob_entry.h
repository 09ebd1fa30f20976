// Keeps what a store knows of one blob. It is of interest to BlobStore (blob_store.cc,
// read_blobs.cc, put_blobs.cc, blob_parts.cc) and upload.cc only.
#ifndef SALIENT_SERVER_STORE_BLOB_ENTRY_H_
#define SALIENT_SERVER_STORE_BLOB_ENTRY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/parallel/mutex.h"
#include "server/store/chunk_sums.h"
#include "server/store/digest.h"
#include "server/store/partial_blob.h"

namespace salient {

// This is one file of an upload: what one writer after another sent of a blob.
struct BlobPart {
  BlobPart(const Digest& digest, int number, int64_t sync_interval_bytes, int64_t written_bytes)
      : bytes(digest, number, sync_interval_bytes, written_bytes), is_doubted(written_bytes > 0) {}

  PartialBlob bytes;
  int64_t writer = 0;       // It is the number of the present one; 0 says that there is none.
  absl::Time heard_at;      // Its writer last did something then.
  int64_t begun_bytes = 0;  // They were there before its writer came.
  // This is set when a whole made of it was rejected, or a crash may have torn it: with the next
  // rejection all of it goes, not only what its last writer sent.
  bool is_doubted;
};

// Returns whether an upload should rather go on with `a` than with `b`.
inline bool IsBetter(const BlobPart& a, const BlobPart& b) {
  const bool a_counts = !a.is_doubted && a.bytes.committed_bytes() > 0;
  const bool b_counts = !b.is_doubted && b.bytes.committed_bytes() > 0;
  if (a_counts != b_counts) return a_counts;
  return a.bytes.committed_bytes() > b.bytes.committed_bytes();
}

// The state is read without a lock.
struct BlobEntry {
  enum class State { kPartial, kComplete, kGone };

  // A view is what readers are to read: the whole, or the best part.
  struct View {
    std::shared_ptr<ChunkSums>
        sums;        // It is null for a whole that nobody has read yet, and for nothing.
    int number = 0;  // It is that of the part.
    int64_t committed_bytes = 0;
  };

  BlobEntry(const Digest& blob, State initial) : digest(blob), state(initial) {}

  // Shows readers the best part. It is called after every change of the parts.
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    const BlobPart* best = nullptr;
    for (const auto& part : parts) {
      if (best == nullptr || IsBetter(*part, *best)) best = part.get();
    }
    const MutexLock lock(view_mu);
    view = best == nullptr
               ? View()
               : View{best->bytes.sums(), best->bytes.number(), best->bytes.committed_bytes()};
  }
  void Publish(std::shared_ptr<ChunkSums> of_whole) {
    const MutexLock lock(view_mu);
    view = {std::move(of_whole), 0, digest.size_bytes};
  }
  View Look() const {
    const MutexLock lock(view_mu);
    return view;
  }
  std::shared_ptr<ChunkSums> SumsOfWhole() {
    const MutexLock lock(view_mu);
    if (view.sums == nullptr) view.sums = std::make_shared<ChunkSums>(digest.size_bytes);
    return view.sums;
  }

  const Digest digest;
  std::atomic<State> state;
  std::atomic<bool> is_verified = false;  // The digest was verified by this process.

  Mutex mu;  // It is held for changes of state and of the files, too.
  int64_t last_writer ABSL_GUARDED_BY(mu) = 0;  // Every writer has a number of its own.
  std::vector<std::shared_ptr<BlobPart>> parts ABSL_GUARDED_BY(mu);

  mutable Mutex view_mu;  // It is never held while a disk works.
  View view ABSL_GUARDED_BY(view_mu);
};

// Names the blob of no bytes, which is always there.
inline const Digest& EmptyDigest() {
  static const Digest digest = DigestOf("");
  return digest;
}

inline absl::Status BlobNotFound(const Digest& digest) {
  return absl::NotFoundError(absl::StrCat("blob ", ToString(digest), ": is not here"));
}

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_BLOB_ENTRY_H_
