#include "server/jobs/result_blobs.h"

#include <algorithm>
#include <utility>

namespace salient {

ResultBlobs::Hold::Hold(Hold&& other) noexcept
    : blobs_(other.blobs_), held_(std::exchange(other.held_, {})) {}

absl::StatusOr<Digest> ResultBlobs::Hold::Put(absl::string_view content) {
  absl::StatusOr<std::vector<Digest>> digests = PutAll({content});
  if (!digests.ok()) return digests.status();
  return digests->front();
}

absl::StatusOr<std::vector<Digest>> ResultBlobs::Hold::PutAll(
    absl::Span<const absl::string_view> contents) {
  std::vector<Digest> digests;
  for (absl::string_view content : contents) digests.push_back(DigestOf(content));
  std::vector<BlobStore::Whole> ours;
  const std::lock_guard<std::mutex> lock(blobs_->mu_);
  for (size_t i = 0; i < contents.size(); ++i) {
    const bool known = blobs_->holders_.contains(digests[i]);
    if (!known && blobs_->store_.Status(digests[i]).complete) continue;
    const bool twice = std::any_of(ours.begin(), ours.end(), [&](const BlobStore::Whole& whole) {
      return whole.digest == digests[i];
    });
    if (!twice) ours.push_back({digests[i], contents[i]});
  }
  if (absl::Status status = blobs_->store_.PutAll(ours); !status.ok()) return status;
  for (const BlobStore::Whole& whole : ours) {
    ++blobs_->holders_[whole.digest];
    held_.push_back(whole.digest);
  }
  return digests;
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
