// BlobStore's reads: of what is whole, of what was committed so far, and of all to verify it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/parallel/mutex.h"
#include "proto/wire/sha256.h"
#include "server/store/blob_entry.h"
#include "server/store/blob_store.h"
#include "server/store/chunk_sums.h"
#include "server/store/digest.h"
#include "server/store/file.h"

namespace salient {
namespace {

constexpr int64_t kVerifyBytes = int64_t{1} << 20;  // So much is read at a time.

absl::Status CheckRange(const Digest& digest, int64_t offset_bytes, int64_t limit_bytes) {
  if (offset_bytes < 0 || limit_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("blob ", ToString(digest), ": offset_bytes is ",
                                                   offset_bytes, " and limit_bytes ", limit_bytes,
                                                   "; expected at least 0"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<File> BlobStore::OpenBlob(BlobEntry& entry) {
  const Digest digest = entry.digest;
  auto file = layout_.OpenBlob(digest);
  absl::Status status = file.status();
  if (status.ok()) {
    const auto size_bytes = file->SizeBytes();
    if (!size_bytes.ok()) return size_bytes.status();
    if (*size_bytes == digest.size_bytes) return file;
    status = absl::DataLossError(absl::StrCat("blob ", ToString(digest), ": its file has ",
                                              *size_bytes, " bytes; expected ", digest.size_bytes));
  }
  if (absl::IsNotFound(status)) status = BlobNotFound(digest);
  if (absl::IsNotFound(status) || absl::IsDataLoss(status)) {
    const MutexLock lock(entry.mu);
    Quarantine(entry);
  }
  return status;
}

absl::StatusOr<BlobReader> BlobStore::Read(const Digest& digest, int64_t offset_bytes,
                                           int64_t limit_bytes) {
  if (absl::Status range = CheckRange(digest, offset_bytes, limit_bytes); !range.ok()) {
    return range;
  }
  const EntryPtr entry = Find(digest);
  const bool is_empty = digest == EmptyDigest();
  if (!is_empty && (entry == nullptr || entry->state != BlobEntry::State::kComplete)) {
    return BlobNotFound(digest);
  }
  const int64_t size_bytes = digest.size_bytes;
  if (offset_bytes > size_bytes) {
    return absl::OutOfRangeError(absl::StrCat("blob ", ToString(digest), ": offset_bytes is ",
                                              offset_bytes, "; expected at most ", size_bytes));
  }
  if (is_empty) return BlobReader();
  auto file = OpenBlob(*entry);
  if (!file.ok()) return file.status();
  const int64_t rest_bytes = size_bytes - offset_bytes;
  const int64_t run_bytes = limit_bytes == 0 ? rest_bytes : std::min(limit_bytes, rest_bytes);
  return BlobReader(this, entry, entry->SumsOfWhole(), *std::move(file), offset_bytes,
                    offset_bytes + run_bytes);
}

absl::StatusOr<BlobReader> BlobStore::ReadCommitted(const Digest& digest, int64_t offset_bytes,
                                                    int64_t limit_bytes) {
  if (absl::Status range = CheckRange(digest, offset_bytes, limit_bytes); !range.ok()) {
    return range;
  }
  const EntryPtr entry = Find(digest);
  if (entry == nullptr || entry->state == BlobEntry::State::kComplete) {
    return Read(digest, offset_bytes, limit_bytes);
  }
  BlobEntry::View view = entry->Look();
  if (limit_bytes > view.committed_bytes - offset_bytes) {
    return absl::OutOfRangeError(absl::StrCat(
        "blob ", ToString(digest), ": ", limit_bytes, " bytes from offset ", offset_bytes,
        "; expected ", "them within the ", view.committed_bytes, " committed"));
  }
  if (limit_bytes == 0) return BlobReader();
  auto file = layout_.OpenPartialForReading(digest, view.number);
  if (absl::IsNotFound(file.status())) {
    // It becomes whole, or another part is the best: who does that holds the lock meanwhile.
    const MutexLock lock(entry->mu);
    view = entry->Look();
    if (entry->state == BlobEntry::State::kPartial && !entry->parts.empty()) {
      file = layout_.OpenPartialForReading(digest, view.number);
    }
  }
  if (absl::IsNotFound(file.status())) return Read(digest, offset_bytes, limit_bytes);
  if (!file.ok()) return file.status();
  return BlobReader(this, entry, view.sums, *std::move(file), offset_bytes,
                    offset_bytes + limit_bytes);
}

void BlobStore::TakeOut(BlobEntry& entry, const ChunkSums& sums) {
  const MutexLock lock(entry.mu);
  if (entry.state == BlobEntry::State::kComplete && entry.Look().sums.get() == &sums) {
    Quarantine(entry);
    return;
  }
  for (const PartPtr& part : entry.parts) {
    if (part->bytes.sums().get() != &sums) continue;
    Discard(entry, *part).IgnoreError();
    return;
  }
}

bool BlobStore::IsVerified(const Digest& digest) const {
  if (digest == EmptyDigest()) return true;
  const EntryPtr entry = Find(digest);
  return entry != nullptr && entry->state == BlobEntry::State::kComplete && entry->is_verified;
}

absl::StatusOr<std::shared_ptr<ChunkSums>> BlobStore::FindAgreeing(const Digest& digest,
                                                                   const ChunkSums& sums) {
  const auto reader = ReadCommitted(digest, 0, Status(digest).committed_bytes);
  if (absl::IsNotFound(reader.status()) || absl::IsOutOfRange(reader.status())) return nullptr;
  if (!reader.ok()) return reader.status();
  if (reader->sums() == nullptr || reader->sums().get() == &sums) return reader->sums();
  const auto agrees = sums.AgreesWith([&reader](int64_t offset_bytes, absl::Span<char> bytes) {
    return reader->ReadAt(offset_bytes, bytes);
  });
  // It has fewer bytes, or has gone since.
  if (absl::IsOutOfRange(agrees.status()) || absl::IsAborted(agrees.status())) return nullptr;
  if (!agrees.ok()) return agrees.status();
  return *agrees ? reader->sums() : nullptr;
}

absl::Status BlobStore::Verify(const Digest& digest) {
  return Verify(digest, [] { return absl::OkStatus(); });
}

absl::Status BlobStore::Verify(const Digest& digest, absl::FunctionRef<absl::Status()> proceed) {
  // This entry is read, not one that replaces it meanwhile.
  const EntryPtr entry = Find(digest);
  auto reader = Read(digest);
  if (!reader.ok()) return reader.status();
  Sha256 sha256;
  absl::Status status;
  while (status.ok() && sha256.size_bytes() < digest.size_bytes) {
    if (absl::Status stopped = proceed(); !stopped.ok()) return stopped;
    const auto bytes = reader->Next(kVerifyBytes);
    if (bytes.ok()) sha256.Update(*bytes);
    status = bytes.status();
  }
  if (status.ok()) {
    const Digest actual = DigestOf(sha256);
    if (actual == digest) {
      if (entry != nullptr) entry->is_verified = true;
      return absl::OkStatus();
    }
    status = absl::DataLossError(absl::StrCat("blob ", ToString(digest), ": its file has sha256 ",
                                              HexSha256(actual), "; moved to quarantine"));
  }
  if (absl::IsDataLoss(status) && entry != nullptr) {
    const MutexLock lock(entry->mu);
    Quarantine(*entry);
  }
  return status;
}

}  // namespace salient
