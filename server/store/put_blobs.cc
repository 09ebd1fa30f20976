// BlobStore's wholes that are made here: written, synced, named and synced again all together.
#include <utility>
#include <vector>

#include "server/store/blob_entry.h"
#include "server/store/blob_store.h"

namespace salient {

struct BlobStore::Putting {
  explicit Putting(const Whole& put_whole) : whole(put_whole) {}

  const Whole& whole;
  EntryPtr entry;      // null: the blob was there, or somebody else made it meanwhile
  int64_t writer = 0;  // of the entry, while it is ours

  // With the entry's lock held. A client that uploads the same blob may have taken over.
  bool IsOurs() const {
    return entry->state == BlobEntry::State::kPartial && entry->writer == writer;
  }
};

absl::Status BlobStore::BeginPut(Putting& put) {
  auto acquired = Acquire(put.whole.digest, Maker::kServer);
  if (!acquired.ok()) return acquired.status();
  return WritePut(put, acquired->first);
}

// With the entry's lock held. What a client sent of it was not verified.
absl::Status BlobStore::WritePut(Putting& put, const EntryPtr& entry) {
  if (entry->state == BlobEntry::State::kComplete) return absl::OkStatus();
  if (absl::Status opened = OpenForWriter(*entry); !opened.ok()) return opened;
  put.entry = entry;
  put.writer = entry->writer;
  return entry->partial.WriteWhole(put.whole.content);
}

absl::Status BlobStore::SyncPut(Putting& put) {
  if (put.entry == nullptr) return absl::OkStatus();
  const std::lock_guard lock(put.entry->mu);
  return put.IsOurs() ? put.entry->partial.Sync() : absl::OkStatus();
}

absl::Status BlobStore::CommitPut(Putting& put) {
  if (put.entry == nullptr) return absl::OkStatus();
  {
    const std::lock_guard lock(put.entry->mu);
    if (put.IsOurs()) return Commit(*put.entry);
  }
  return PutLocked(put);
}

// Once more and under one lock, so that nobody can take over: what was computed here is not lost
// to a client that sends the same bytes.
absl::Status BlobStore::PutLocked(Putting& put) {
  put.entry = nullptr;
  auto acquired = Acquire(put.whole.digest, Maker::kServer);
  if (!acquired.ok()) return acquired.status();
  absl::Status status = WritePut(put, acquired->first);
  if (!status.ok() || put.entry == nullptr) return status;
  status = put.entry->partial.Sync();
  return status.ok() ? Commit(*put.entry) : status;
}

void BlobStore::TakeBack(Putting& put) {
  if (put.entry == nullptr) return;
  const std::lock_guard lock(put.entry->mu);
  const bool made = put.entry->state == BlobEntry::State::kComplete;
  if (put.entry->writer == put.writer && (made || put.IsOurs())) Remove(*put.entry).IgnoreError();
}

absl::Status BlobStore::PutAll(absl::Span<const Whole> wholes) {
  std::vector<Putting> puts;
  std::vector<Digest> digests;
  for (const Whole& whole : wholes) {
    if (whole.content.empty()) continue;  // always there
    puts.emplace_back(whole);
    digests.push_back(whole.digest);
  }
  if (puts.empty()) return absl::OkStatus();
  absl::Status status;
  for (const auto step : {&BlobStore::BeginPut, &BlobStore::SyncPut, &BlobStore::CommitPut}) {
    for (Putting& put : puts) {
      if (status.ok()) status = (this->*step)(put);
    }
  }
  if (status.ok()) status = layout_.SyncCommits(digests);
  if (status.ok()) return status;
  for (Putting& put : puts) TakeBack(put);
  return status;
}

absl::StatusOr<Digest> BlobStore::Put(absl::string_view content) {
  const Digest digest = DigestOf(content);
  if (absl::Status status = PutAll({{digest, content}}); !status.ok()) return status;
  return digest;
}

}  // namespace salient
