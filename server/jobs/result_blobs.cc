#include "server/jobs/result_blobs.h"

#include <algorithm>
#include <utility>

#include "server/store/upload.h"

namespace salient {
namespace {

// Somebody may delete what is being written, and a client may finish it before us.
constexpr int kWriteAttempts = 10;

bool IsOthersDoing(const absl::Status& status) {
  return absl::IsAborted(status) || absl::IsAlreadyExists(status);
}

// Writes beside what clients send of it, which was not verified. Nothing half-written stays.
absl::Status WriteOnce(BlobStore& store, const Digest& digest, ResultBlobs::Hold::Writer write) {
  absl::StatusOr<Upload> upload = store.BeginUpload(digest, BlobStore::Maker::kServer);
  if (!upload.ok()) return upload.status();
  absl::Status status = write(*upload);
  if (status.ok()) status = upload->Finish();
  if (!status.ok()) upload->Discard();
  return status;
}

}  // namespace

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
  const MutexLock lock(blobs_->mu_);
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
  const MutexLock lock(blobs_->mu_);
  BlobStore& store = blobs_->store_;
  bool is_ours = blobs_->holders_.contains(digest);
  absl::Status status;
  for (int attempt = 0; attempt < kWriteAttempts && !store.Status(digest).complete; ++attempt) {
    status = WriteOnce(store, digest, write);
    if (status.ok()) is_ours = true;
    if (!IsOthersDoing(status)) break;
  }
  if (!status.ok() && !store.Status(digest).complete) return status;
  if (!is_ours) return absl::OkStatus();
  ++blobs_->holders_[digest];
  held_.push_back(digest);
  return absl::OkStatus();
}

void ResultBlobs::Hold::Keep(const Digest& digest) {
  const MutexLock lock(blobs_->mu_);
  const auto found = blobs_->holders_.find(digest);
  if (found == blobs_->holders_.end()) return;
  ++found->second;
  held_.push_back(digest);
}

void ResultBlobs::Hold::Release() {
  for (const Digest& digest : std::exchange(held_, {})) {
    const MutexLock lock(blobs_->mu_);
    const auto found = blobs_->holders_.find(digest);
    if (--found->second > 0) continue;
    blobs_->holders_.erase(found);
    blobs_->store_.Delete(digest).IgnoreError();  // It is gone already, or was found damaged.
  }
}

}  // namespace salient
