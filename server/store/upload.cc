#include "server/store/upload.h"

#include <mutex>

#include "absl/strings/str_cat.h"
#include "server/store/blob_entry.h"
#include "server/store/blob_store.h"

namespace salient {

Upload& Upload::operator=(Upload&& other) noexcept {
  if (this != &other) {
    Release();
    store_ = other.store_;
    entry_ = std::move(other.entry_);
    writer_ = other.writer_;
  }
  return *this;
}

Upload::~Upload() { Release(); }

void Upload::Release() {
  if (entry_ == nullptr) return;
  const std::lock_guard lock(entry_->mu);
  if (CheckWriter().ok()) entry_->partial.Close();
}

absl::Status Upload::CheckWriter() const {
  using State = BlobEntry::State;
  const absl::string_view why = entry_->state == State::kGone       ? "was deleted"
                                : entry_->writer != writer_         ? "has a newer writer"
                                : entry_->state == State::kComplete ? "is complete"
                                                                    : "";
  if (why.empty()) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("blob ", ToString(digest()), ": ", why));
}

absl::Status Upload::Append(int64_t offset_bytes, absl::string_view data) {
  const std::lock_guard lock(entry_->mu);
  if (absl::Status current = CheckWriter(); !current.ok()) return current;
  const int64_t committed = entry_->partial.committed_bytes();
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
  return entry_->partial.Append(data);
}

absl::Status Upload::Finish() {
  const std::lock_guard lock(entry_->mu);
  if (absl::Status current = CheckWriter(); !current.ok()) return current;
  const int64_t committed = entry_->partial.committed_bytes();
  if (committed != digest().size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("blob ", ToString(digest()), ": finished after ",
                                                   committed, " bytes; expected ",
                                                   digest().size_bytes));
  }
  const auto actual = entry_->partial.Finish();
  if (!actual.ok()) return actual.status();
  if (*actual != digest()) {
    if (absl::Status removed = store_->Remove(*entry_); !removed.ok()) return removed;
    return absl::InvalidArgumentError(absl::StrCat("blob ", ToString(digest()),
                                                   ": its bytes have sha256 ", HexSha256(*actual),
                                                   "; the upload is discarded"));
  }
  if (absl::Status status = store_->Commit(*entry_); !status.ok()) return status;
  return store_->layout_.SyncCommits({digest()});
}

int64_t Upload::committed_bytes() const { return entry_->partial.committed_bytes(); }

const Digest& Upload::digest() const { return entry_->digest; }

}  // namespace salient
