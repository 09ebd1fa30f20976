#include "server/jobs/pending_tensor.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/store/upload.h"

namespace salient {
namespace {

constexpr char kFileName[] = "tensor";
constexpr int64_t kHeldTensorBytes = int64_t{32} << 20;  // Larger ones go through a file.
constexpr int64_t kPieceBytes = int64_t{1} << 20;

}  // namespace

absl::Status PendingTensor::Append(int64_t offset, absl::string_view bytes) {
  if (offset != sha256_.size_bytes()) {
    return absl::InternalError(absl::StrCat("tensor ", tensor_.name, ": bytes at ", offset,
                                            " after ", sha256_.size_bytes()));
  }
  sha256_.Update(bytes);
  if (tensor_.SizeBytes() <= kHeldTensorBytes) {
    absl::StrAppend(&held_, bytes);
    return absl::OkStatus();
  }
  if (!file_.is_open()) {
    absl::StatusOr<Directory> directory = Directory::OpenRoot(directory_);
    if (!directory.ok()) return directory.status();
    absl::StatusOr<File> file = directory->OpenForWriting(kFileName);
    if (!file.ok()) return file.status();
    file_ = *std::move(file);
  }
  return file_.WriteAt(offset, bytes);
}

absl::StatusOr<Digest> PendingTensor::Store(const CancelToken& stop, ResultBlobs::Hold& results) {
  if (!file_.is_open()) return results.Put(held_);
  const Digest digest = DigestOf(sha256_);
  absl::Status status = results.Write(digest, [&](Upload& upload) -> absl::Status {
    std::string buffer(kPieceBytes, '\0');
    for (int64_t offset = 0; offset < digest.size_bytes;) {
      if (absl::Status stopped = stop.Check(); !stopped.ok()) return stopped;
      buffer.resize(static_cast<size_t>(std::min(kPieceBytes, digest.size_bytes - offset)));
      absl::Status moved = file_.ReadAt(offset, absl::MakeSpan(&buffer[0], buffer.size()));
      if (moved.ok()) moved = upload.Append(offset, buffer);
      if (!moved.ok()) return moved;
      offset += static_cast<int64_t>(buffer.size());
    }
    return absl::OkStatus();
  });
  // The next one begins with an empty file.
  if (status.ok()) status = file_.Truncate(0);
  if (!status.ok()) return status;
  return digest;
}

}  // namespace salient
