// Reads a checkpoint whose files are blobs that may still be arriving.
#ifndef SALIENT_SERVER_JOBS_ARRIVING_CHECKPOINT_H_
#define SALIENT_SERVER_JOBS_ARRIVING_CHECKPOINT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/checkpoint/shard_index.h"
#include "core/checkpoint/tensor_source.h"
#include "core/model/model.h"
#include "core/parallel/mutex.h"
#include "core/safetensors/safetensors.h"
#include "server/jobs/blob_arrival.h"
#include "server/jobs/job.h"
#include "server/jobs/model_manifest.h"
#include "server/store/blob_reader.h"
#include "server/store/blob_store.h"
#include "server/store/chunk_sums.h"

namespace salient {

// Headers are known from inline content or from bytes that arrived. Reading waits for what it asks
// for, but only on the thread that made the object: a worker that waited for bytes could be the one
// that is to receive them. So that thread calls WaitForTensors before workers read. Bytes are
// handed out before their file's digest was verified, of the upload that is furthest: whoever uses
// them asks HoldAgainstBlobs in the end. Reading returns ABORTED if that upload is gone and its
// bytes were not those of the blob. It is thread-safe after ReadHeaders or WaitForHeaders returned
// true or OK.
class ArrivingCheckpoint final : public TensorSource {
 public:
  // Borrows all. `arrival` may be null for one that is only asked for headers and for
  // tensors that are here.
  ArrivingCheckpoint(const ModelManifest& manifest, BlobStore& store, BlobArrival* arrival);

  // Parses the headers that are here. Returns whether all are, which are then held against the
  // index. Errors: INVALID_ARGUMENT, BAD_MODEL, as ParseSafetensorsHeader and PlaceTensors, and for
  // inline content that is not the whole header, or not the first bytes of its blob.
  absl::StatusOr<bool> ReadHeaders();

  // Returns the same when all of them have come. Its errors are also those of BlobArrival.
  absl::Status WaitForHeaders();

  // Returns when all bytes of these tensors have come. Its errors are those of Find and
  // BlobArrival.
  absl::Status WaitForTensors(absl::Span<const TensorSpec> tensors) const;

  // Holds the inline content of every file against its blob, and copies of a tensor against each
  // other. All blobs must be complete.
  absl::Status CheckInlineContent() const;

  // Waits until the files that were read are complete, and says whether what was read is theirs:
  // ABORTED if it was of an upload that was not. Its errors are also those of BlobArrival.
  absl::Status HoldAgainstBlobs() const;

  // Returns the bytes of all tensors, and their names, sorted.
  int64_t TensorBytes() const;
  std::vector<std::string> TensorNames() const;

  const std::string& name() const override { return name_; }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override;
  bool IsHere(absl::string_view tensor) const override;
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override;

 private:
  struct File {
    explicit File(const ModelFile& model_file) : manifest(model_file) {}
    const ModelFile& manifest;
    std::optional<SafetensorsHeader> header;
    int64_t data_begin = 0;
    mutable Mutex mu;
    mutable bool inline_checked ABSL_GUARDED_BY(mu) = false;
    // It reads what was committed when it was opened.
    mutable std::shared_ptr<const BlobReader> reader ABSL_GUARDED_BY(mu);
    // Each is of another upload.
    mutable std::vector<std::shared_ptr<ChunkSums>> read_through ABSL_GUARDED_BY(mu);
    mutable absl::Status damage ABSL_GUARDED_BY(mu);  // A read found it.
  };

  // Returns the length and JSON of a file's header; nullopt if not all of it is here.
  absl::StatusOr<std::optional<std::string>> HeadOf(const File& file) const;
  absl::Status ReadHeader(File& file) const;
  absl::Status CheckInline(const File& file) const;
  absl::Status ReadAt(const File& file, int64_t offset, absl::Span<char> bytes) const;
  absl::StatusOr<std::shared_ptr<const BlobReader>> ReaderUpTo(const File& file, int64_t end) const;
  // Waits for the first `end` bytes of a file. Returns DATA_LOSS, ABORTED if what was read of any
  // turned out to be no good.
  absl::Status WaitFor(const File& file, int64_t end) const;
  absl::Status CheckUploads(const File& file) const;
  absl::Status BegunAnew(const File& file) const;
  absl::StatusOr<const File*> FileOf(absl::string_view tensor) const;
  absl::Status Index();
  absl::Status CheckCopy(const std::string& tensor, const File& other) const;

  const std::string name_ = "model";
  const std::thread::id owner_ = std::this_thread::get_id();
  const ModelManifest& manifest_;
  BlobStore& store_;
  BlobArrival* const arrival_;
  std::vector<std::unique_ptr<File>> files_;
  std::vector<TensorPlace> file_of_;  // It holds (tensor, index into files_), sorted.
  std::vector<TensorPlace> copies_;   // It holds the copies in other files.
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_ARRIVING_CHECKPOINT_H_
