// Blobs that jobs made, and how many jobs still need each.
#ifndef SALIENT_SERVER_JOBS_RESULT_BLOBS_H_
#define SALIENT_SERVER_JOBS_RESULT_BLOBS_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/parallel/mutex.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/store/upload.h"

namespace salient {

// A blob that was whole in the store before a job asked for it belongs to whoever uploaded it and
// is never deleted here. It is thread-safe; calls wait for a disk, and for each other.
class ResultBlobs {
 public:
  // Holds what one job holds. Released blobs that no other job holds are deleted. It is not
  // thread-safe.
  class Hold {
   public:
    explicit Hold(ResultBlobs& blobs) : blobs_(&blobs) {}
    Hold(Hold&& other) noexcept;
    Hold& operator=(Hold&&) = delete;
    ~Hold() { Release(); }

    // Stores a whole; as BlobStore::Put.
    absl::StatusOr<Digest> Put(absl::string_view content);
    // Puts the same of several, all or none, in order.
    absl::StatusOr<std::vector<Digest>> PutAll(absl::Span<const absl::string_view> contents);

    // Stores what `write` appends to the upload it is given, which is `digest` in the end; does not
    // call it if the blob is there.
    using Writer = absl::FunctionRef<absl::Status(Upload& upload)>;
    absl::Status Write(const Digest& digest, Writer write);

    // Keeps a blob that another job made; nothing if none did.
    void Keep(const Digest& digest);

    void Release();

   private:
    ResultBlobs* blobs_;
    std::vector<Digest> held_;
  };

  // Borrows the store.
  explicit ResultBlobs(BlobStore& store) : store_(store) {}

 private:
  BlobStore& store_;
  Mutex mu_;  // It is held, too, while the store makes or deletes a blob of the map.
  absl::flat_hash_map<Digest, int64_t> holders_ ABSL_GUARDED_BY(mu_);
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_RESULT_BLOBS_H_
