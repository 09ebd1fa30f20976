#include "server/store/partial_blob.h"

#include <algorithm>
#include <vector>

namespace salient {
namespace {

// So much goes to the disk at a time, between syncs.
constexpr int64_t kHandOverBytes = int64_t{8} << 20;
// So much is read at a time, to hash what was not hashed.
constexpr int64_t kReadBytes = int64_t{1} << 20;

}  // namespace

int64_t PartialBlob::SyncedBytes(int64_t written_bytes, int64_t sync_interval_bytes) {
  if (written_bytes <= 0) return 0;
  return (written_bytes - 1) / sync_interval_bytes * sync_interval_bytes;
}

PartialBlob::PartialBlob(const Digest& digest, int number, int64_t sync_interval_bytes,
                         int64_t written_bytes)
    : digest_(digest),
      number_(number),
      sync_interval_bytes_(sync_interval_bytes),
      // A file longer than announced is still a prefix plus what will be cut off.
      committed_bytes_(
          SyncedBytes(std::min(written_bytes, digest.size_bytes), sync_interval_bytes)),
      written_bytes_(committed_bytes_.load()),
      synced_bytes_(written_bytes_),
      sums_(std::make_shared<ChunkSums>(digest.size_bytes)) {}

absl::Status PartialBlob::Open(const Layout& layout) {
  auto file = layout.OpenPartial(digest_, number_);
  if (!file.ok()) return file.status();
  const auto length = file->SizeBytes();
  if (!length.ok()) return length.status();
  file_ = *std::move(file);
  if (*length < committed_bytes()) {
    // Somebody else has cut the file.
    FallBackTo(SyncedBytes(*length, sync_interval_bytes_));
  }
  absl::Status status;
  if (*length > committed_bytes()) status = file_.Truncate(committed_bytes());
  if (status.ok()) status = file_.Touch();
  if (status.ok()) {
    status = file_.Reserve(committed_bytes(), digest_.size_bytes - committed_bytes());
    // A reservation that failed may have taken what there was.
    if (!status.ok()) file_.Truncate(committed_bytes()).IgnoreError();
  }
  if (!status.ok()) Close();
  return status;
}

void PartialBlob::Close() { file_ = File(); }

void PartialBlob::FallBackTo(int64_t size_bytes) {
  if (size_bytes < committed_bytes()) {
    const auto kept = std::make_shared<ChunkSums>(*sums_, size_bytes);
    sums_->Discard();  // It comes first, so that nobody blames the disk for what is cut now.
    sums_ = kept;
  }
  file_.Truncate(size_bytes).IgnoreError();  // Otherwise later writes replace what is there.
  written_bytes_ = size_bytes;
  synced_bytes_ = std::min(synced_bytes_, size_bytes);
  committed_bytes_.store(size_bytes, std::memory_order_release);
  if (hashed_bytes() > size_bytes) sha256_.reset();
}

absl::Status PartialBlob::Sync() {
  if (synced_bytes_ == written_bytes_) return absl::OkStatus();
  absl::Status status = file_.Sync();
  if (!status.ok()) {
    // Pages that could not be written may be gone, and a second sync would not say so.
    FallBackTo(synced_bytes_);
    return status;
  }
  synced_bytes_ = written_bytes_;
  return absl::OkStatus();
}

absl::Status PartialBlob::Write(absl::string_view data) {
  const int64_t begin = committed_bytes();
  for (absl::string_view rest = data; !rest.empty();) {
    if (written_bytes_ % sync_interval_bytes_ == 0) {
      if (absl::Status status = Sync(); !status.ok()) return status;
    }
    const int64_t boundary = (written_bytes_ / sync_interval_bytes_ + 1) * sync_interval_bytes_;
    const absl::string_view piece = rest.substr(0, static_cast<size_t>(boundary - written_bytes_));
    if (absl::Status status = file_.WriteAt(written_bytes_, piece); !status.ok()) {
      FallBackTo(begin);
      return status;
    }
    written_bytes_ += static_cast<int64_t>(piece.size());
    handed_bytes_ = std::min(handed_bytes_, written_bytes_);  // It has fallen back.
    if (written_bytes_ - handed_bytes_ >= kHandOverBytes) {
      file_.BeginSync(handed_bytes_, written_bytes_ - handed_bytes_);
      handed_bytes_ = written_bytes_;
    }
    rest.remove_prefix(piece.size());
  }
  return absl::OkStatus();
}

absl::Status PartialBlob::Append(absl::string_view data) {
  const int64_t begin = committed_bytes();
  if (absl::Status status = Write(data); !status.ok()) return status;
  if (hashed_bytes() == begin) {
    if (!sha256_.has_value()) sha256_.emplace();
    sha256_->Update(data);
  }
  sums_->Append(begin, data);
  committed_bytes_.store(written_bytes_, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status PartialBlob::WriteWhole(absl::string_view content) {
  absl::Status status = Write(content);
  if (!status.ok()) return status;
  sums_->Append(0, content);
  committed_bytes_.store(written_bytes_, std::memory_order_release);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> PartialBlob::HashMore(int64_t max_bytes) {
  if (!sha256_.has_value()) sha256_.emplace();
  const int64_t end = hashed_bytes() + std::min(max_bytes, written_bytes_ - hashed_bytes());
  std::vector<char> buffer;
  while (hashed_bytes() < end) {
    const int64_t offset = hashed_bytes();
    buffer.resize(static_cast<size_t>(std::min(kReadBytes, end - offset)));
    absl::Status status = sums_->Read(file_, offset, absl::MakeSpan(buffer));
    if (!status.ok()) return status;
    sha256_->Update(absl::string_view(buffer.data(), buffer.size()));
  }
  return written_bytes_ - end;
}

absl::StatusOr<Digest> PartialBlob::Finish() {
  if (absl::Status status = Sync(); !status.ok()) return status;
  const absl::StatusOr<int64_t> left = HashMore(written_bytes_);
  if (!left.ok()) return left.status();
  const Digest digest = DigestOf(*sha256_);
  sha256_.reset();
  return digest;
}

}  // namespace salient
