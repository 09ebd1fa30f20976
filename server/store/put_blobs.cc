// BlobStore's wholes that are made here: written, synced, named and synced again all together.
#include <utility>
#include <vector>

#include "core/parallel/mutex.h"
#include "server/store/blob_entry.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"

namespace salient {

struct BlobStore::Putting {
  explicit Putting(const Whole& put_whole) : whole(put_whole) {}

  const Whole& whole;
  EntryPtr entry;  // It is null if the blob was there.
  PartPtr part;    // It is ours.
  int64_t writer = 0;

  // Returns false when the part was deleted, became the blob or was taken over, or another one
  // became the blob. Needs the entry's lock.
  bool IsOurs() const { return part->writer == writer; }
};

absl::Status BlobStore::BeginPut(Putting& put) {
  while (true) {
    const EntryPtr entry = FindOrAdd(put.whole.digest);
    const MutexLock lock(entry->mu);
    if (entry->state != BlobEntry::State::kGone) return WritePut(put, entry);
  }
}

// What a client sent of it was not verified.
absl::Status BlobStore::WritePut(Putting& put, const EntryPtr& entry) {
  if (entry->state == BlobEntry::State::kComplete) return absl::OkStatus();
  absl::StatusOr<PartPtr> part = AddPart(*entry, Maker::kServer);
  absl::Status status = part.status();
  if (status.ok()) status = OpenForWriter(*entry, **part);
  if (!status.ok()) {
    if (entry->parts.empty()) Forget(*entry);
    return status;
  }
  put.entry = entry;
  put.part = *std::move(part);
  put.writer = put.part->writer;
  status = put.part->bytes.WriteWhole(put.whole.content);
  entry->Publish();
  return status;
}

absl::Status BlobStore::SyncPut(Putting& put) {
  if (put.entry == nullptr) return absl::OkStatus();
  const MutexLock lock(put.entry->mu);
  return put.IsOurs() ? put.part->bytes.Sync() : absl::OkStatus();
}

absl::Status BlobStore::CommitPut(Putting& put) {
  if (put.entry == nullptr) return absl::OkStatus();
  {
    const MutexLock lock(put.entry->mu);
    if (put.IsOurs()) return Commit(*put.entry, *put.part);
  }
  return PutLocked(put);
}

// Puts once more and under one lock: what was computed here is not lost to somebody who deletes or
// uploads the same bytes.
absl::Status BlobStore::PutLocked(Putting& put) {
  put.entry = nullptr;
  while (true) {
    const EntryPtr entry = FindOrAdd(put.whole.digest);
    const MutexLock lock(entry->mu);
    if (entry->state == BlobEntry::State::kGone) continue;
    absl::Status status = WritePut(put, entry);
    if (!status.ok() || put.entry == nullptr) return status;
    status = put.part->bytes.Sync();
    return status.ok() ? Commit(*entry, *put.part) : status;
  }
}

void BlobStore::TakeBack(Putting& put) {
  if (put.entry == nullptr) return;
  const MutexLock lock(put.entry->mu);
  if (put.entry->state == BlobEntry::State::kComplete) {
    if (put.entry->Look().sums == put.part->bytes.sums()) Remove(*put.entry).IgnoreError();
  } else if (put.IsOurs()) {
    Discard(*put.entry, *put.part).IgnoreError();
  }
}

absl::Status BlobStore::PutAll(absl::Span<const Whole> wholes) {
  std::vector<Putting> puts;
  std::vector<Digest> digests;
  for (const Whole& whole : wholes) {
    if (whole.content.empty()) continue;  // It is always there.
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
