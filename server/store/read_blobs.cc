// BlobStore's reads: of what is whole, of what was committed so far, and of all to verify it.
#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/blob_entry.h"
#include "server/store/blob_store.h"

namespace salient {
namespace {

constexpr int64_t kVerifyBytes = int64_t{1} << 20;  // read at a time

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
    const std::lock_guard lock(entry.mu);
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
  return BlobReader(*std::move(file), offset_bytes, offset_bytes + run_bytes);
}

absl::StatusOr<BlobReader> BlobStore::ReadCommitted(const Digest& digest, int64_t offset_bytes,
                                                    int64_t limit_bytes) {
  if (absl::Status range = CheckRange(digest, offset_bytes, limit_bytes); !range.ok()) {
    return range;
  }
  const BlobStatus status = Status(digest);
  if (limit_bytes > status.committed_bytes - offset_bytes) {
    return absl::OutOfRangeError(absl::StrCat(
        "blob ", ToString(digest), ": ", limit_bytes, " bytes from offset ", offset_bytes,
        "; expected ", "them within the ", status.committed_bytes, " committed"));
  }
  if (limit_bytes == 0) return BlobReader(File(), offset_bytes, offset_bytes);
  if (!status.complete) {
    auto file = layout_.OpenPartialForReading(digest);
    if (file.ok()) return BlobReader(*std::move(file), offset_bytes, offset_bytes + limit_bytes);
    if (!absl::IsNotFound(file.status())) return file.status();
    // It becomes whole: who moves the file holds the lock until the state says so.
    if (const EntryPtr entry = Find(digest); entry != nullptr) {
      const std::lock_guard lock(entry->mu);
    }
  }
  return Read(digest, offset_bytes, limit_bytes);
}

absl::Status BlobStore::Verify(const Digest& digest) {
  // Of this entry, not of one that replaces it meanwhile.
  const EntryPtr entry = Find(digest);
  auto reader = Read(digest);
  if (!reader.ok()) return reader.status();
  Sha256 sha256;
  absl::Status status;
  while (status.ok() && sha256.size_bytes() < digest.size_bytes) {
    const auto bytes = reader->Next(kVerifyBytes);
    if (bytes.ok()) sha256.Update(*bytes);
    status = bytes.status();
  }
  if (status.ok()) {
    const Digest actual = sha256.Snapshot();
    if (actual == digest) return absl::OkStatus();
    status = absl::DataLossError(absl::StrCat("blob ", ToString(digest), ": its file has sha256 ",
                                              HexSha256(actual), "; moved to quarantine"));
  }
  if (absl::IsDataLoss(status) && entry != nullptr) {
    const std::lock_guard lock(entry->mu);
    Quarantine(*entry);
  }
  return status;
}

}  // namespace salient
