// Reads for ArrivingCheckpoint, of which it is a part, uploads that may not become the blob.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/parallel/mutex.h"
#include "server/error/call_error.h"
#include "server/jobs/arriving_checkpoint.h"
#include "server/store/blob_reader.h"
#include "server/store/chunk_sums.h"
#include "server/store/digest.h"
#include "server/store/file.h"

namespace salient {

absl::StatusOr<std::shared_ptr<const BlobReader>> ArrivingCheckpoint::ReaderUpTo(
    const File& file, int64_t end) const {
  const Digest& digest = file.manifest.digest;
  const MutexLock lock(file.mu);
  if (file.reader != nullptr && file.reader->end_offset() >= end) return file.reader;
  // The reader spans all that is committed, so that not every range opens the file anew.
  const int64_t committed = store_.Status(digest).committed_bytes;
  absl::StatusOr<BlobReader> opened = store_.ReadCommitted(digest, 0, std::max(committed, end));
  // The blob was there once, or nobody would ask for it.
  if (absl::IsOutOfRange(opened.status()) || absl::IsNotFound(opened.status())) {
    return BegunAnew(file);
  }
  if (!opened.ok()) return WithReason(opened.status(), Reason::kMissingBlob);
  file.reader = std::make_shared<const BlobReader>(*std::move(opened));
  if (std::find(file.read_through.begin(), file.read_through.end(), file.reader->sums()) ==
      file.read_through.end()) {
    file.read_through.push_back(file.reader->sums());
  }
  return file.reader;
}

absl::Status ArrivingCheckpoint::ReadAt(const File& file, int64_t offset,
                                        absl::Span<char> bytes) const {
  const int64_t end = offset + static_cast<int64_t>(bytes.size());
  while (true) {
    const auto reader = ReaderUpTo(file, end);
    if (!reader.ok()) return reader.status();
    absl::Status status = (*reader)->ReadAt(offset, bytes);
    if (!absl::IsAborted(status)) return WithReason(std::move(status), Reason::kBlobDamaged);
    if (status = CheckUploads(file); !status.ok()) return status;
  }
}

absl::Status ArrivingCheckpoint::BegunAnew(const File& file) const {
  return absl::AbortedError(
      absl::StrCat(file.manifest.name, ": the upload that it was read of did not become the blob ",
                   ToString(file.manifest.digest)));
}

absl::Status ArrivingCheckpoint::CheckUploads(const File& file) const {
  const Digest& digest = file.manifest.digest;
  const MutexLock lock(file.mu);
  if (!file.damage.ok()) return file.damage;  // Nobody waits until it is sent again.
  for (std::shared_ptr<ChunkSums>& sums : file.read_through) {
    if (!sums->discarded()) continue;
    // Somebody else may have sent the same bytes.
    absl::StatusOr<std::shared_ptr<ChunkSums>> agreeing = store_.FindAgreeing(digest, *sums);
    if (!agreeing.ok()) return WithReason(agreeing.status(), Reason::kBlobDamaged);
    if (*agreeing == nullptr) return BegunAnew(file);
    sums = *std::move(agreeing);
    file.reader = nullptr;  // The next one reads that upload.
  }
  return absl::OkStatus();
}

absl::Status ArrivingCheckpoint::WaitFor(const File& file, int64_t end) const {
  return arrival_->WaitForBytes(file.manifest.name, file.manifest.digest, end,
                                [this]() -> absl::Status {
                                  for (const std::unique_ptr<File>& each : files_) {
                                    absl::Status good = CheckUploads(*each);
                                    if (!good.ok()) return good;
                                  }
                                  return absl::OkStatus();
                                });
}

absl::Status ArrivingCheckpoint::HoldAgainstBlobs() const {
  for (const std::unique_ptr<File>& file : files_) {
    std::vector<std::shared_ptr<ChunkSums>> read_through;
    {
      const MutexLock lock(file->mu);
      read_through = file->read_through;
    }
    if (read_through.empty()) continue;
    const Digest& digest = file->manifest.digest;
    absl::Status status = arrival_->WaitUntilComplete(file->manifest.name, digest);
    if (!status.ok()) return status;
    for (const std::shared_ptr<ChunkSums>& sums : read_through) {
      const auto agreeing = store_.FindAgreeing(digest, *sums);
      if (!agreeing.ok()) return WithReason(agreeing.status(), Reason::kBlobDamaged);
      if (*agreeing == nullptr) return BegunAnew(*file);
    }
  }
  return absl::OkStatus();
}

}  // namespace salient
