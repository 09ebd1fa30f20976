#include "server/store/blob_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

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

  BlobStoreLimits possible = limits;
  const auto room = layout->FindRoom();
  if (!room.ok()) return room.status();
  if (room->total_bytes < limits.capacity_bytes) {
    possible.capacity_bytes = std::max<int64_t>(1, room->total_bytes);
    contents->report.remarks.push_back(absl::StrCat(
        directory, ": the store may use ", limits.capacity_bytes, " bytes, but its disk has ",
        room->total_bytes, " in all, which is its capacity now"));
  }
  // make_unique cannot be used: the constructor is private.
  std::unique_ptr<BlobStore> store(
      new BlobStore(*std::move(layout), possible, std::move(contents->report)));
  for (const Digest& digest : contents->blobs) {
    auto entry = std::make_shared<BlobEntry>(digest, BlobEntry::State::kComplete);
    entry->Publish(/*of_whole=*/nullptr);
    const MutexLock lock(store->mu_);
    store->entries_[digest] = std::move(entry);
    store->usage_.used_bytes += digest.size_bytes;
    ++store->usage_.blobs;
  }
  for (const Layout::Partial& partial : contents->partials) {
    auto entry = std::make_shared<BlobEntry>(partial.digest, BlobEntry::State::kPartial);
    {
      const MutexLock lock(entry->mu);
      entry->parts.push_back(std::make_shared<BlobPart>(
          partial.digest, partial.number, limits.sync_interval_bytes, partial.written_bytes));
      entry->Publish();
    }
    const MutexLock lock(store->mu_);
    store->entries_[partial.digest] = std::move(entry);
    store->usage_.used_bytes += partial.digest.size_bytes;
    ++store->usage_.uploads;
  }
  const int64_t wanted_bytes = possible.capacity_bytes - store->Usage().used_bytes;
  if (room->free_bytes < wanted_bytes) {
    store->recovery_.remarks.push_back(absl::StrCat(
        directory, ": the store may use ", wanted_bytes, " more bytes, but its disk has ",
        room->free_bytes, " free; uploads beyond are refused"));
  }
  return store;
}

BlobStore::BlobStore(Layout layout, const BlobStoreLimits& limits, RecoveryReport recovery)
    : layout_(std::move(layout)), limits_(limits), recovery_(std::move(recovery)) {}

BlobStore::~BlobStore() = default;

BlobStore::EntryPtr BlobStore::Find(const Digest& digest) const {
  const MutexLock lock(mu_);
  const auto found = entries_.find(digest);
  return found == entries_.end() ? nullptr : found->second;
}

absl::Status BlobStore::CheckSize(const Digest& digest) const {
  if (digest.size_bytes <= limits_.capacity_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("blob ", ToString(digest), ": size_bytes is ", digest.size_bytes,
                   "; expected at most ", limits_.capacity_bytes, ", all that the store holds"));
}

absl::Status BlobStore::CheckRoom(const Digest& digest, Maker maker) const {
  if (absl::Status size = CheckSize(digest); !size.ok()) return size;
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

BlobStore::EntryPtr BlobStore::FindOrAdd(const Digest& digest) {
  const MutexLock lock(mu_);
  EntryPtr& entry = entries_[digest];
  if (entry == nullptr) entry = std::make_shared<BlobEntry>(digest, BlobEntry::State::kPartial);
  return entry;
}

void BlobStore::Forget(BlobEntry& entry) {
  const bool complete = entry.state == BlobEntry::State::kComplete;
  entry.state = BlobEntry::State::kGone;
  const MutexLock lock(mu_);
  if (complete) {
    usage_.used_bytes -= entry.digest.size_bytes;
    --usage_.blobs;
  }
  entries_.erase(
      entry.digest);  // It goes last: the map's may be the last pointer but the caller's.
}

absl::Status BlobStore::Remove(BlobEntry& entry) {
  absl::Status removed;
  if (entry.state == BlobEntry::State::kComplete) removed = layout_.RemoveBlob(entry.digest);
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  while (!entry.parts.empty()) {
    removed = RemovePart(entry, *entry.parts.back());
    if (!removed.ok()) return removed;
  }
  Forget(entry);
  return absl::OkStatus();
}

void BlobStore::Quarantine(BlobEntry& entry) {
  if (entry.state != BlobEntry::State::kComplete) return;
  // A file that cannot be moved is found, and judged, again when the store is opened.
  layout_.Quarantine(entry.digest).IgnoreError();
  Forget(entry);
}

std::vector<Digest> BlobStore::FindMissing(absl::Span<const Digest> digests) const {
  std::vector<Digest> missing;
  const MutexLock lock(mu_);
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
      return {entry->Look().committed_bytes, false};
    case BlobEntry::State::kComplete:
      return {digest.size_bytes, true};
    case BlobEntry::State::kGone:
      break;
  }
  return {};
}

absl::Status BlobStore::Delete(const Digest& digest) {
  const EntryPtr entry = Find(digest);
  if (entry == nullptr) return BlobNotFound(digest);
  const MutexLock lock(entry->mu);
  if (entry->state == BlobEntry::State::kGone) return BlobNotFound(digest);
  return Remove(*entry);
}

BlobStoreUsage BlobStore::Usage() const {
  const MutexLock lock(mu_);
  return usage_;
}

}  // namespace salient
