#include "server/store/upload.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/parallel/mutex.h"
#include "server/store/blob_entry.h"
#include "server/store/blob_store.h"

namespace salient {

Upload::Upload(BlobStore* store, std::shared_ptr<BlobEntry> entry, std::shared_ptr<BlobPart> part)
    : store_(store), entry_(std::move(entry)), part_(std::move(part)), writer_(part_->writer) {}

Upload& Upload::operator=(Upload&& other) noexcept {
  if (this != &other) {
    Release();
    store_ = other.store_;
    entry_ = std::move(other.entry_);
    part_ = std::move(other.part_);
    writer_ = other.writer_;
  }
  return *this;
}

Upload::~Upload() { Release(); }

void Upload::Release() {
  if (entry_ == nullptr) return;
  const MutexLock lock(entry_->mu);
  if (CheckWriter().ok()) store_->CloseForWriter(*entry_, *part_);
}

absl::Status Upload::CheckWriter() const {
  using State = BlobEntry::State;
  const std::string blob = absl::StrCat("blob ", ToString(digest()), ": ");
  if (entry_->state == State::kComplete) {
    return absl::AlreadyExistsError(absl::StrCat(blob, "is complete"));
  }
  if (part_->writer == writer_) return absl::OkStatus();
  return absl::AbortedError(
      absl::StrCat(blob, part_->writer == 0 ? "was deleted" : "has a newer writer"));
}

absl::Status Upload::Append(int64_t offset_bytes, absl::string_view data) {
  const MutexLock lock(entry_->mu);
  if (absl::Status current = CheckWriter(); !current.ok()) return current;
  part_->heard_at = absl::Now();
  const int64_t committed = committed_bytes();
  if (offset_bytes != committed) {
    return absl::OutOfRangeError(absl::StrCat("blob ", ToString(digest()), ": offset_bytes is ",
                                              offset_bytes, "; expected ", committed,
                                              ", what is committed"));
  }
  const int64_t room = digest().size_bytes - committed;
  if (static_cast<int64_t>(data.size()) > room) {
    return absl::InvalidArgumentError(absl::StrCat("blob ", ToString(digest()), ": data of ",
                                                   data.size(), " bytes at offset ", offset_bytes,
                                                   "; expected at most ", room, " more"));
  }
  absl::Status status = part_->bytes.Append(data);
  part_->heard_at = absl::Now();  // It counts from now, however long the disk took.
  entry_->Publish();
  return status;
}

absl::Status Upload::NotHashed(const absl::Status& status) {
  entry_->Publish();
  if (!absl::IsDataLoss(status)) return status;
  store_->Discard(*entry_, *part_).IgnoreError();
  return absl::DataLossError(absl::StrCat("blob ", ToString(digest()), ": ", status.message(),
                                          "; the upload is discarded"));
}

absl::StatusOr<int64_t> Upload::HashMore(int64_t max_bytes) {
  const MutexLock lock(entry_->mu);
  if (absl::Status current = CheckWriter(); !current.ok()) return current;
  absl::StatusOr<int64_t> left = part_->bytes.HashMore(max_bytes);
  part_->heard_at = absl::Now();
  if (!left.ok()) return NotHashed(left.status());
  return left;
}

absl::Status Upload::Finish() {
  const MutexLock lock(entry_->mu);
  if (absl::Status current = CheckWriter(); !current.ok()) return current;
  const int64_t committed = committed_bytes();
  if (committed != digest().size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("blob ", ToString(digest()), ": finished after ",
                                                   committed, " bytes; expected ",
                                                   digest().size_bytes));
  }
  const auto actual = part_->bytes.Finish();
  if (!actual.ok()) return NotHashed(actual.status());
  if (*actual != digest()) {
    if (absl::Status rejected = store_->Reject(*entry_, *part_); !rejected.ok()) return rejected;
    return absl::InvalidArgumentError(absl::StrCat("blob ", ToString(digest()),
                                                   ": its bytes have sha256 ", HexSha256(*actual),
                                                   "; what was sent is discarded"));
  }
  if (absl::Status status = store_->Commit(*entry_, *part_); !status.ok()) return status;
  return store_->layout_.SyncCommits({digest()});
}

void Upload::Discard() {
  const MutexLock lock(entry_->mu);
  if (CheckWriter().ok()) store_->Discard(*entry_, *part_).IgnoreError();
}

int64_t Upload::committed_bytes() const { return part_->bytes.committed_bytes(); }

const Digest& Upload::digest() const { return entry_->digest; }

}  // namespace salient
