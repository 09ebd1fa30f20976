// Implements BlobStore's uploads: each of one blob has its own file, and one of them goes on.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/parallel/mutex.h"
#include "server/store/blob_entry.h"
#include "server/store/blob_store.h"
#include "server/store/chunk_sums.h"
#include "server/store/digest.h"
#include "server/store/upload.h"

namespace salient {

absl::StatusOr<Upload> BlobStore::BeginUpload(const Digest& digest, Maker maker,
                                              std::optional<int64_t> offset_bytes) {
  while (digest != EmptyDigest()) {
    const EntryPtr entry = FindOrAdd(digest);
    const MutexLock lock(entry->mu);
    // It was deleted while we waited: its successor is found next time.
    if (entry->state == BlobEntry::State::kGone) continue;
    if (entry->state == BlobEntry::State::kComplete) break;
    absl::StatusOr<PartPtr> part = nullptr;
    if (maker == Maker::kClient) part = FindPart(*entry, offset_bytes);
    if (part.ok() && *part == nullptr) part = AddPart(*entry, maker);
    absl::Status status = part.status();
    if (status.ok()) status = OpenForWriter(*entry, **part);
    if (status.ok()) return Upload(this, entry, *std::move(part));
    if (entry->parts.empty()) Forget(*entry);
    return status;
  }
  return absl::AlreadyExistsError(absl::StrCat("blob ", ToString(digest), ": is complete"));
}

absl::StatusOr<BlobStore::PartPtr> BlobStore::FindPart(BlobEntry& entry,
                                                       std::optional<int64_t> offset_bytes) const {
  const absl::Time now = absl::Now();
  PartPtr best;
  bool is_written = false;
  for (const PartPtr& part : entry.parts) {
    if (offset_bytes.value_or(part->bytes.committed_bytes()) != part->bytes.committed_bytes()) {
      continue;
    }
    if (part->writer != 0 && now - part->heard_at < limits_.takeover_after) {
      is_written = true;
    } else if (best == nullptr || IsBetter(*part, *best)) {
      best = part;
    }
  }
  if (best != nullptr || offset_bytes.value_or(0) == 0) return best;
  if (is_written) {
    return absl::AbortedError(absl::StrCat(
        "blob ", ToString(entry.digest), ": somebody is sending what follows byte ", *offset_bytes,
        "; continue when nothing came for ", absl::FormatDuration(limits_.takeover_after),
        ", or send all of it yourself, from byte 0"));
  }
  return absl::OutOfRangeError(
      absl::StrCat("blob ", ToString(entry.digest), ": offset_bytes is ", *offset_bytes,
                   "; expected ", entry.Look().committed_bytes, ", what is committed, or 0"));
}

// Counts one more upload, and gives up what was left of the same blob if there is no room
// otherwise.
absl::Status BlobStore::TakeRoom(BlobEntry& entry, Maker maker) {
  while (true) {
    absl::Status room;
    {
      const MutexLock lock(mu_);
      room = CheckRoom(entry.digest, maker);
      if (room.ok()) {
        usage_.used_bytes += entry.digest.size_bytes;
        ++usage_.uploads;
      }
    }
    if (!absl::IsResourceExhausted(room)) return room;
    const auto left = std::find_if(entry.parts.begin(), entry.parts.end(),
                                   [](const PartPtr& part) { return part->writer == 0; });
    if (left == entry.parts.end()) return room;
    if (absl::Status removed = RemovePart(entry, **left); !removed.ok()) return removed;
  }
}

absl::StatusOr<BlobStore::PartPtr> BlobStore::AddPart(BlobEntry& entry, Maker maker) {
  if (absl::Status room = TakeRoom(entry, maker); !room.ok()) return room;
  const auto is_taken = [&entry](int number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu) {
    return std::any_of(entry.parts.begin(), entry.parts.end(),
                       [number](const PartPtr& part) { return part->bytes.number() == number; });
  };
  int number = 0;
  while (is_taken(number)) ++number;
  entry.parts.push_back(std::make_shared<BlobPart>(entry.digest, number,
                                                   limits_.sync_interval_bytes,
                                                   /*written_bytes=*/0));
  return entry.parts.back();
}

absl::Status BlobStore::OpenForWriter(BlobEntry& entry, BlobPart& part) {
  absl::Status opened = part.bytes.Open(layout_);
  if (!opened.ok() && part.bytes.committed_bytes() == 0) {
    // Nothing is lost, and its place in the store is free for others.
    if (absl::Status removed = RemovePart(entry, part); !removed.ok()) ForgetPart(entry, part);
    return opened;
  }
  entry.Publish();  // The file may have been cut by somebody else.
  part.writer = opened.ok() ? ++entry.last_writer : 0;
  part.heard_at = absl::Now();
  part.begun_bytes = part.bytes.committed_bytes();
  return opened;
}

// Ends a writer's work on a part. Of all that writers left who are gone, only the best part stays.
void BlobStore::CloseForWriter(BlobEntry& entry, BlobPart& part) {
  part.bytes.Close();
  part.writer = 0;
  std::vector<PartPtr> left;
  for (const PartPtr& each : entry.parts) {
    if (each->writer == 0) left.push_back(each);
  }
  const auto best =
      std::min_element(left.begin(), left.end(),
                       [](const PartPtr& a, const PartPtr& b) { return IsBetter(*a, *b); });
  for (const PartPtr& each : left) {
    if (each != *best) RemovePart(entry, *each).IgnoreError();
  }
}

// Takes back what the writer sent; what others sent before it may be right.
absl::Status BlobStore::Reject(BlobEntry& entry, BlobPart& part) {
  if (part.begun_bytes == 0 || part.is_doubted) return Discard(entry, part);
  part.bytes.FallBackTo(part.begun_bytes);
  part.is_doubted = true;
  CloseForWriter(entry, part);
  entry.Publish();
  return absl::OkStatus();
}

void BlobStore::ForgetPart(BlobEntry& entry, const BlobPart& part) {
  const auto found = std::find_if(entry.parts.begin(), entry.parts.end(),
                                  [&part](const PartPtr& each) { return each.get() == &part; });
  const PartPtr keep = std::move(*found);
  entry.parts.erase(found);
  keep->writer = 0;
  keep->bytes.Close();
  keep->bytes.sums()->Discard();
  entry.Publish();
  const MutexLock lock(mu_);
  usage_.used_bytes -= entry.digest.size_bytes;
  --usage_.uploads;
}

absl::Status BlobStore::RemovePart(BlobEntry& entry, const BlobPart& part) {
  absl::Status removed = layout_.RemovePartial(entry.digest, part.bytes.number());
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  ForgetPart(entry, part);
  return absl::OkStatus();
}

absl::Status BlobStore::Discard(BlobEntry& entry, const BlobPart& part) {
  absl::Status removed = RemovePart(entry, part);
  if (removed.ok() && entry.parts.empty()) Forget(entry);
  return removed;
}

absl::Status BlobStore::Commit(BlobEntry& entry, BlobPart& part) {
  absl::Status moved = layout_.Commit(entry.digest, part.bytes.number());
  if (!moved.ok()) return moved;
  part.bytes.Close();
  part.writer = 0;  // So nobody who held it touches a later upload of the same name.
  entry.is_verified = true;
  const std::shared_ptr<ChunkSums> sums = part.bytes.sums();
  for (const PartPtr& other : std::vector<PartPtr>(entry.parts)) {
    if (other.get() != &part && !RemovePart(entry, *other).ok()) ForgetPart(entry, *other);
  }
  entry.parts.clear();
  entry.Publish(sums);
  entry.state = BlobEntry::State::kComplete;
  const MutexLock lock(mu_);
  --usage_.uploads;
  ++usage_.blobs;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> BlobStore::ExpireUploads(absl::Time now) {
  std::vector<EntryPtr> uploads;
  {
    const MutexLock lock(mu_);
    for (const auto& [digest, entry] : entries_) {
      if (entry->state == BlobEntry::State::kPartial) uploads.push_back(entry);
    }
  }
  int64_t expired = 0;
  for (const EntryPtr& entry : uploads) {
    if (!entry->mu.TryLock()) continue;
    const MutexLock lock(entry->mu, MutexLock::kIsHeld);
    if (entry->state != BlobEntry::State::kPartial) continue;
    for (const PartPtr& part : std::vector<PartPtr>(entry->parts)) {
      const auto info = layout_.PartialInfo(entry->digest, part->bytes.number());
      if (!info.ok() && !absl::IsNotFound(info.status())) return info.status();
      if (info.ok() && now - info->changed_at < limits_.upload_ttl) continue;
      if (absl::Status removed = Discard(*entry, *part); !removed.ok()) return removed;
      ++expired;
    }
  }
  return expired;
}

}  // namespace salient
