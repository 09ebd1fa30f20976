#include "server/store/layout.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace salient {
namespace {

constexpr absl::string_view kPartSuffix = ".part";

std::string PartialName(const Digest& digest, int number) {
  if (number == 0) return absl::StrCat(BlobName(digest), kPartSuffix);
  return absl::StrCat(BlobName(digest), ".", number, kPartSuffix);
}

// Returns nothing for any other text.
std::optional<Layout::Partial> ParsePartialName(absl::string_view name) {
  absl::string_view stem = name;
  if (!absl::ConsumeSuffix(&stem, kPartSuffix)) return std::nullopt;
  Layout::Partial partial;
  const size_t dot = stem.find('.');
  if (dot != stem.npos && !absl::SimpleAtoi(stem.substr(dot + 1), &partial.number)) {
    return std::nullopt;
  }
  const std::optional<Digest> digest = ParseBlobName(stem.substr(0, dot));
  if (!digest.has_value()) return std::nullopt;
  partial.digest = *digest;
  if (PartialName(partial.digest, partial.number) != name) return std::nullopt;
  return partial;
}

std::string ShardName(const Digest& digest) { return HexSha256(digest).substr(0, 2); }

bool IsShardName(absl::string_view name) {
  return name.size() == 2 && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

void Remark(RecoveryReport& report, std::string line) {
  if (report.remarks.size() < RecoveryReport::kMaxRemarks) {
    report.remarks.push_back(std::move(line));
  }
}

void Foreign(RecoveryReport& report, const Directory& directory, absl::string_view name) {
  ++report.foreign;
  Remark(report, absl::StrCat(directory.path(), "/", absl::CHexEscape(name),
                              ": not a file of the store; left alone"));
}

}  // namespace

std::string BlobName(const Digest& digest) {
  return absl::StrCat(HexSha256(digest), "-", digest.size_bytes);
}

std::optional<Digest> ParseBlobName(absl::string_view name) {
  int64_t size_bytes = 0;
  if (name.size() <= kHexDigits || name[kHexDigits] != '-' ||
      !absl::SimpleAtoi(name.substr(kHexDigits + 1), &size_bytes)) {
    return std::nullopt;
  }
  const auto digest = ParseDigest("name", name.substr(0, kHexDigits), size_bytes);
  // A digest has one name: "+5" and "05" are none.
  if (!digest.ok() || BlobName(*digest) != name) return std::nullopt;
  return *digest;
}

absl::StatusOr<Layout> Layout::Open(const std::string& directory) {
  auto root = Directory::OpenRoot(directory);
  if (!root.ok()) return root.status();
  if (absl::Status locked = root->Lock(); !locked.ok()) return locked;
  auto uploads = root->Subdirectory("uploads");
  if (!uploads.ok()) return uploads.status();
  auto all_blobs = root->Subdirectory("blobs");
  if (!all_blobs.ok()) return all_blobs.status();
  auto blobs = all_blobs->Subdirectory("sha256");
  if (!blobs.ok()) return blobs.status();
  auto quarantine = root->Subdirectory("quarantine");
  if (!quarantine.ok()) return quarantine.status();
  Layout layout(*std::move(root), *std::move(uploads), *std::move(blobs), *std::move(quarantine));
  for (const Directory* parent : {&layout.root_, &*all_blobs}) {
    if (absl::Status synced = parent->Sync(); !synced.ok()) return synced;
  }
  return layout;
}

absl::StatusOr<Directory> Layout::Shard(const Digest& digest) const {
  return blobs_.Subdirectory(ShardName(digest));
}

absl::Status Layout::ScanShard(const std::string& shard_name, Contents& contents) const {
  const auto shard = blobs_.Subdirectory(shard_name);
  if (absl::IsFailedPrecondition(shard.status())) {  // It is a file or a link.
    Foreign(contents.report, blobs_, shard_name);
    return absl::OkStatus();
  }
  if (!shard.ok()) return shard.status();
  const Directory& directory = *shard;
  const auto names = directory.Names();
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    const auto digest = ParseBlobName(name);
    const auto info = directory.Info(name);
    if (!info.ok()) return info.status();
    if (!digest.has_value() || ShardName(*digest) != shard_name || !info->is_regular_file) {
      Foreign(contents.report, directory, name);
      continue;
    }
    if (info->size_bytes != digest->size_bytes) {
      if (absl::Status moved = Quarantine(*digest); !moved.ok()) return moved;
      ++contents.report.quarantined;
      Remark(contents.report, absl::StrCat(directory.path(), "/", name, ": has ", info->size_bytes,
                                           " bytes; moved to quarantine"));
      continue;
    }
    contents.blobs.push_back(*digest);
    ++contents.report.blobs;
  }
  return absl::OkStatus();
}

absl::StatusOr<Layout::Contents> Layout::Scan() const {
  Contents contents;
  const auto shard_names = blobs_.Names();
  if (!shard_names.ok()) return shard_names.status();
  for (const std::string& name : *shard_names) {
    if (!IsShardName(name)) {
      Foreign(contents.report, blobs_, name);
    } else if (absl::Status scanned = ScanShard(name, contents); !scanned.ok()) {
      return scanned;
    }
  }

  if (absl::Status scanned = ScanUploads(contents); !scanned.ok()) return scanned;
  return contents;
}

absl::Status Layout::ScanUploads(Contents& contents) const {
  const absl::flat_hash_set<Digest> whole(contents.blobs.begin(), contents.blobs.end());
  const auto names = uploads_.Names();
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    std::optional<Partial> partial = ParsePartialName(name);
    const auto info = uploads_.Info(name);
    if (!info.ok()) return info.status();
    if (!partial.has_value() || !info->is_regular_file) {
      Foreign(contents.report, uploads_, name);
      continue;
    }
    partial->written_bytes = info->size_bytes;
    absl::Status status =
        whole.contains(partial->digest) ? uploads_.Remove(name) : KeepLongest(contents, *partial);
    if (!status.ok()) return status;
  }
  contents.report.uploads = static_cast<int64_t>(contents.partials.size());
  return absl::OkStatus();
}

// Names come in order, so that those of one blob follow each other.
absl::Status Layout::KeepLongest(Contents& contents, const Partial& partial) const {
  if (contents.partials.empty() || contents.partials.back().digest != partial.digest) {
    contents.partials.push_back(partial);
    return absl::OkStatus();
  }
  Partial& kept = contents.partials.back();
  const bool longer = partial.written_bytes > kept.written_bytes;
  const Partial& shorter = longer ? kept : partial;
  absl::Status removed = RemovePartial(shorter.digest, shorter.number);
  if (longer) kept = partial;
  return removed;
}

absl::StatusOr<File> Layout::OpenPartial(const Digest& digest, int number) const {
  return uploads_.OpenForWriting(PartialName(digest, number));
}

absl::StatusOr<File> Layout::OpenPartialForReading(const Digest& digest, int number) const {
  return uploads_.OpenForReading(PartialName(digest, number));
}

absl::StatusOr<FileInfo> Layout::PartialInfo(const Digest& digest, int number) const {
  return uploads_.Info(PartialName(digest, number));
}

absl::Status Layout::RemovePartial(const Digest& digest, int number) const {
  return uploads_.Remove(PartialName(digest, number));
}

absl::Status Layout::Commit(const Digest& digest, int number) const {
  const auto shard = Shard(digest);
  if (!shard.ok()) return shard.status();
  return uploads_.MoveTo(*shard, PartialName(digest, number), BlobName(digest));
}

absl::Status Layout::SyncCommits(absl::Span<const Digest> digests) const {
  absl::flat_hash_set<std::string> synced;
  absl::Status status;
  for (const Digest& digest : digests) {
    if (!synced.insert(ShardName(digest)).second) continue;
    const auto shard = Shard(digest);
    if (!shard.ok()) return shard.status();
    if (status = shard->Sync(); !status.ok()) return status;
  }
  if (status.ok()) status = blobs_.Sync();  // A shard may be new.
  if (status.ok()) status = uploads_.Sync();
  return status;
}

absl::StatusOr<File> Layout::OpenBlob(const Digest& digest) const {
  const auto shard = Shard(digest);
  if (!shard.ok()) return shard.status();
  return shard->OpenForReading(BlobName(digest));
}

absl::Status Layout::RemoveBlob(const Digest& digest) const {
  const auto shard = Shard(digest);
  if (!shard.ok()) return shard.status();
  return shard->Remove(BlobName(digest));
}

absl::Status Layout::Quarantine(const Digest& digest) const {
  const auto shard = Shard(digest);
  if (!shard.ok()) return shard.status();
  return shard->MoveTo(quarantine_, BlobName(digest), BlobName(digest));
}

}  // namespace salient
