// What a store knows of one blob. Of interest to BlobStore (blob_store.cc, read_blobs.cc,
// put_blobs.cc) and upload.cc only.
#ifndef SALIENT_SERVER_STORE_BLOB_ENTRY_H_
#define SALIENT_SERVER_STORE_BLOB_ENTRY_H_

#include <atomic>
#include <cstdint>
#include <mutex>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/store/digest.h"
#include "server/store/partial_blob.h"

namespace salient {

// State and committed bytes are read without the lock.
struct BlobEntry {
  enum class State { kPartial, kComplete, kGone };

  BlobEntry(const Digest& blob, State initial, int64_t sync_interval_bytes, int64_t written_bytes)
      : digest(blob), state(initial), partial(blob, sync_interval_bytes, written_bytes) {}

  const Digest digest;
  std::atomic<State> state;

  std::mutex mu;       // of the next two, of changes of state, and of changing the files
  int64_t writer = 0;  // the newest
  PartialBlob partial;
};

// The blob of no bytes, which is always there.
inline const Digest& EmptyDigest() {
  static const Digest digest = DigestOf("");
  return digest;
}

inline absl::Status BlobNotFound(const Digest& digest) {
  return absl::NotFoundError(absl::StrCat("blob ", ToString(digest), ": is not here"));
}

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_BLOB_ENTRY_H_
