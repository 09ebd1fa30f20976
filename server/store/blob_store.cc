#include "server/store/blob_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/store/blob_entry.h"

namespace salient {

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(const std::string& directory,
                                                           const BlobStoreLimits& limits) {
  const std::pair<absl::string_view, int64_t> positive[] = {
      {"capacity_bytes", limits.capacity_bytes},
      {"max_uploads", limits.max_uploads},
      {"sync_interval_bytes", limits.sync_interval_bytes}};
  for (const auto& [field, value] : positive) {
    if (value < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, " is ", value, "; expected at least 1"));
    }
  }
  auto layout = Layout::Open(directory);
  if (!layout.ok()) return layout.status();
  auto contents = layout->Scan();
  if (!contents.ok()) return contents.status();

  // Not make_unique: the constructor is private.
  std::unique_ptr<BlobStore> store(
      new BlobStore(*std::move(layout), limits, std::move(contents->report)));
  const int64_t interval = limits.sync_interval_bytes;
  for (const Digest& digest : contents->blobs) {
    store->entries_[digest] =
        std::make_shared<BlobEntry>(digest, BlobEntry::State::kComplete, interval, 0);
    store->usage_.used_bytes += digest.size_bytes;
    ++store->usage_.blobs;
  }
  for (const Layout::Partial& partial : contents->partials) {
    store->entries_[partial.digest] = std::make_shared<BlobEntry>(
        partial.digest, BlobEntry::State::kPartial, interval, partial.written_bytes);
    store->usage_.used_bytes += partial.digest.size_bytes;
    ++store->usage_.uploads;
  }
  return store;
}

BlobStore::BlobStore(Layout layout, const BlobStoreLimits& limits, RecoveryReport recovery)
    : layout_(std::move(layout)), limits_(limits), recovery_(std::move(recovery)) {}

BlobStore::~BlobStore() = default;

BlobStore::EntryPtr BlobStore::Find(const Digest& digest) const {
  const std::lock_guard lock(mu_);
  const auto found = entries_.find(digest);
  return found == entries_.end() ? nullptr : found->second;
}

absl::Status BlobStore::CheckRoom(const Digest& digest, Maker maker) const {
  if (digest.size_bytes > limits_.capacity_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("blob ", ToString(digest), ": size_bytes is ", digest.size_bytes,
                     "; expected at most ", limits_.capacity_bytes, ", all that the store holds"));
  }
  // An earlier run with a larger capacity may have left more than there is now.
  const int64_t free_bytes = std::max<int64_t>(0, limits_.capacity_bytes - usage_.used_bytes);
  if (digest.size_bytes > free_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("blob ", ToString(digest), ": size_bytes is ", digest.size_bytes,
                     "; the store has ", free_bytes, " free of ", limits_.capacity_bytes));
  }
  if (maker == Maker::kClient && usage_.uploads >= limits_.max_uploads) {
    return absl::ResourceExhaustedError(
        absl::StrCat("blob ", ToString(digest), ": ", usage_.uploads,
                     " uploads are unfinished; expected fewer than ", limits_.max_uploads));
  }
  return absl::OkStatus();
}

absl::StatusOr<BlobStore::EntryPtr> BlobStore::FindOrAdd(const Digest& digest, Maker maker) {
  const std::lock_guard lock(mu_);
  const auto found = entries_.find(digest);
  if (found != entries_.end()) return found->second;
  if (absl::Status room = CheckRoom(digest, maker); !room.ok()) return room;
  auto entry =
      std::make_shared<BlobEntry>(digest, BlobEntry::State::kPartial, limits_.sync_interval_bytes,
                                  /*written_bytes=*/0);
  entries_[digest] = entry;
  usage_.used_bytes += digest.size_bytes;
  ++usage_.uploads;
  return entry;
}

absl::StatusOr<std::pair<BlobStore::EntryPtr, std::unique_lock<std::mutex>>> BlobStore::Acquire(
    const Digest& digest, Maker maker) {
  while (true) {
    auto entry = FindOrAdd(digest, maker);
    if (!entry.ok()) return entry.status();
    std::unique_lock lock((*entry)->mu);
    // Deleted while we waited: its successor is found next time.
    if ((*entry)->state != BlobEntry::State::kGone) return std::pair(*entry, std::move(lock));
  }
}

void BlobStore::Forget(BlobEntry& entry) {
  const bool complete = entry.state == BlobEntry::State::kComplete;
  entry.state = BlobEntry::State::kGone;
  entry.partial.Close();
  const std::lock_guard lock(mu_);
  usage_.used_bytes -= entry.digest.size_bytes;
  --(complete ? usage_.blobs : usage_.uploads);
  entries_.erase(entry.digest);  // last: the map's may be the last pointer but the caller's
}

absl::Status BlobStore::Remove(BlobEntry& entry) {
  absl::Status removed = entry.state == BlobEntry::State::kComplete
                             ? layout_.RemoveBlob(entry.digest)
                             : layout_.RemovePartial(entry.digest);
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  Forget(entry);
  return absl::OkStatus();
}

void BlobStore::Quarantine(BlobEntry& entry) {
  if (entry.state != BlobEntry::State::kComplete) return;
  // A file that cannot be moved is found, and judged, again when the store is opened.
  layout_.Quarantine(entry.digest).IgnoreError();
  Forget(entry);
}

absl::Status BlobStore::OpenForWriter(BlobEntry& entry) {
  ++entry.writer;
  absl::Status opened = entry.partial.Open(layout_);
  if (!opened.ok() && entry.partial.committed_bytes() == 0) {
    // Nothing is lost, and its place in the store is free for others.
    if (absl::Status removed = Remove(entry); !removed.ok()) Forget(entry);
  }
  return opened;
}

absl::Status BlobStore::Commit(BlobEntry& entry) {
  if (absl::Status moved = layout_.Commit(entry.digest); !moved.ok()) return moved;
  entry.partial.Close();
  entry.state = BlobEntry::State::kComplete;
  {
    const std::lock_guard lock(mu_);
    --usage_.uploads;
    ++usage_.blobs;
  }
  return absl::OkStatus();
}

std::vector<Digest> BlobStore::FindMissing(absl::Span<const Digest> digests) const {
  std::vector<Digest> missing;
  const std::lock_guard lock(mu_);
  for (const Digest& digest : digests) {
    const auto found = entries_.find(digest);
    const bool complete =
        found != entries_.end() && found->second->state == BlobEntry::State::kComplete;
    if (!complete && digest != EmptyDigest()) missing.push_back(digest);
  }
  return missing;
}

BlobStatus BlobStore::Status(const Digest& digest) const {
  if (digest == EmptyDigest()) return {0, true};
  const EntryPtr entry = Find(digest);
  if (entry == nullptr) return {};
  switch (entry->state.load()) {
    case BlobEntry::State::kPartial:
      return {entry->partial.committed_bytes(), false};
    case BlobEntry::State::kComplete:
      return {digest.size_bytes, true};
    case BlobEntry::State::kGone:
      break;
  }
  return {};
}

absl::StatusOr<Upload> BlobStore::BeginUpload(const Digest& digest, Maker maker) {
  if (digest != EmptyDigest()) {
    auto acquired = Acquire(digest, maker);
    if (!acquired.ok()) return acquired.status();
    const auto& [entry, lock] = *acquired;
    if (entry->state == BlobEntry::State::kPartial) {
      if (absl::Status opened = OpenForWriter(*entry); !opened.ok()) return opened;
      return Upload(this, entry, entry->writer);
    }
  }
  return absl::AlreadyExistsError(absl::StrCat("blob ", ToString(digest), ": is complete"));
}

absl::Status BlobStore::Delete(const Digest& digest) {
  const EntryPtr entry = Find(digest);
  if (entry == nullptr) return BlobNotFound(digest);
  const std::lock_guard lock(entry->mu);
  if (entry->state == BlobEntry::State::kGone) return BlobNotFound(digest);
  return Remove(*entry);
}

absl::StatusOr<int64_t> BlobStore::ExpireUploads(absl::Time now) {
  std::vector<EntryPtr> uploads;
  {
    const std::lock_guard lock(mu_);
    for (const auto& [digest, entry] : entries_) {
      if (entry->state == BlobEntry::State::kPartial) uploads.push_back(entry);
    }
  }
  int64_t expired = 0;
  for (const EntryPtr& entry : uploads) {
    const std::unique_lock lock(entry->mu, std::try_to_lock);
    if (!lock.owns_lock() || entry->state != BlobEntry::State::kPartial) continue;
    const auto info = layout_.PartialInfo(entry->digest);
    if (!info.ok() && !absl::IsNotFound(info.status())) return info.status();
    if (info.ok() && now - info->changed_at < limits_.upload_ttl) continue;
    if (absl::Status removed = Remove(*entry); !removed.ok()) return removed;
    ++expired;
  }
  return expired;
}

BlobStoreUsage BlobStore::Usage() const {
  const std::lock_guard lock(mu_);
  return usage_;
}

}  // namespace salient
