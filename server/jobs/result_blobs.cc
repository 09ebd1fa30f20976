#include "server/jobs/result_blobs.h"

#include <utility>

namespace salient {

ResultBlobs::Hold::Hold(Hold&& other) noexcept
    : blobs_(other.blobs_), held_(std::exchange(other.held_, {})) {}

absl::StatusOr<Digest> ResultBlobs::Hold::Put(absl::string_view content) {
  const Digest digest = DigestOf(content);
  const std::lock_guard<std::mutex> lock(blobs_->mu_);
  const bool ours = blobs_->holders_.contains(digest);
  if (!ours && blobs_->store_.Status(digest).complete) return digest;
  if (absl::StatusOr<Digest> put = blobs_->store_.Put(content); !put.ok()) return put;
  ++blobs_->holders_[digest];
  held_.push_back(digest);
  return digest;
}

absl::Status ResultBlobs::Hold::Write(const Digest& digest, Writer write) {
  const std::lock_guard<std::mutex> lock(blobs_->mu_);
  const bool ours = blobs_->holders_.contains(digest);
  if (blobs_->store_.Status(digest).complete) {
    if (!ours) return absl::OkStatus();
  } else {
    // What a client may have begun of it was not verified.
    if (blobs_->store_.Status(digest).committed_bytes > 0) {
      blobs_->store_.Delete(digest).IgnoreError();
    }
    absl::StatusOr<Upload> upload = blobs_->store_.BeginUpload(digest);
    if (!upload.ok()) return upload.status();
    absl::Status status = write(*upload);
    if (status.ok()) status = upload->Finish();
    if (!status.ok()) {
      // Nothing half-written stays, unless a client writes it by now.
      if (!absl::IsAborted(status)) blobs_->store_.Delete(digest).IgnoreError();
      return status;
    }
  }
  ++blobs_->holders_[digest];
  held_.push_back(digest);
  return absl::OkStatus();
}

void ResultBlobs::Hold::Keep(const Digest& digest) {
  const std::lock_guard<std::mutex> lock(blobs_->mu_);
  const auto found = blobs_->holders_.find(digest);
  if (found == blobs_->holders_.end()) return;
  ++found->second;
  held_.push_back(digest);
}

void ResultBlobs::Hold::Release() {
  for (const Digest& digest : std::exchange(held_, {})) {
    const std::lock_guard<std::mutex> lock(blobs_->mu_);
    const auto found = blobs_->holders_.find(digest);
    if (--found->second > 0) continue;
    blobs_->holders_.erase(found);
    blobs_->store_.Delete(digest).IgnoreError();  // gone already, or found damaged
  }
}

}  // namespace salient
