#include "server/jobs/arriving_checkpoint.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/safetensors/safetensors.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"
#include "server/jobs/job.h"

namespace salient {
namespace {

constexpr int64_t kPrefixBytes = kSafetensorsPrefixBytes;

absl::Status BadModel(const absl::Status& status) { return WithReason(status, Reason::kBadModel); }

// Names the file that a read found damaged.
absl::Status OfFile(const ModelFile& file, const absl::Status& status) {
  if (!absl::IsDataLoss(status)) return status;
  return WithReason(absl::DataLossError(absl::StrCat(file.name, ": ", status.message())),
                    Reason::kBlobDamaged);
}

// Checks the size that was announced: nobody waits for bytes that cannot come.
absl::Status CheckHoldsPrefix(const ModelFile& file) {
  if (file.digest.size_bytes >= kPrefixBytes) return absl::OkStatus();
  return InvalidCall(Reason::kBadModel,
                     absl::StrCat(file.name, ": file has ", file.digest.size_bytes,
                                  " bytes; expected at least ", kPrefixBytes));
}

// Returns what the first 8 bytes say of length and JSON together.
absl::StatusOr<int64_t> HeadBytes(const ModelFile& file, absl::string_view prefix) {
  const absl::StatusOr<int64_t> json_bytes = SafetensorsHeaderBytes(
      file.name, prefix.substr(0, kSafetensorsPrefixBytes), file.digest.size_bytes);
  if (!json_bytes.ok()) return BadModel(json_bytes.status());
  return kPrefixBytes + *json_bytes;
}

}  // namespace

ArrivingCheckpoint::ArrivingCheckpoint(const ModelManifest& manifest, BlobStore& store,
                                       BlobArrival* arrival)
    : manifest_(manifest), store_(store), arrival_(arrival) {
  for (const ModelFile& file : manifest.weights) files_.push_back(std::make_unique<File>(file));
}

absl::StatusOr<std::optional<std::string>> ArrivingCheckpoint::HeadOf(const File& file) const {
  const ModelFile& model_file = file.manifest;
  if (absl::Status large = CheckHoldsPrefix(model_file); !large.ok()) return large;
  if (model_file.inline_content.has_value()) {
    const std::string& content = *model_file.inline_content;
    const int64_t content_bytes = static_cast<int64_t>(content.size());
    if (content_bytes < kPrefixBytes || content_bytes > model_file.digest.size_bytes) {
      return InvalidCall(Reason::kBadModel,
                         absl::StrCat(model_file.name, ": inline_content has ", content_bytes,
                                      " bytes; expected the length and the JSON of the header, ",
                                      "the first of the file's ", model_file.digest.size_bytes));
    }
    const absl::StatusOr<int64_t> head_bytes = HeadBytes(model_file, content);
    if (!head_bytes.ok()) return head_bytes.status();
    if (content_bytes < *head_bytes) {
      return InvalidCall(Reason::kBadModel,
                         absl::StrCat(model_file.name, ": inline_content has ", content_bytes,
                                      " bytes; expected all ", *head_bytes, " of the header"));
    }
    return content.substr(0, static_cast<size_t>(*head_bytes));
  }
  const int64_t committed = store_.Status(model_file.digest).committed_bytes;
  if (committed < kPrefixBytes) return std::nullopt;
  std::string head(kPrefixBytes, '\0');
  if (absl::Status status = ReadAt(file, 0, absl::MakeSpan(&head[0], head.size())); !status.ok()) {
    return status;
  }
  const absl::StatusOr<int64_t> head_bytes = HeadBytes(model_file, head);
  if (!head_bytes.ok()) return head_bytes.status();
  if (committed < *head_bytes) return std::nullopt;
  head.resize(static_cast<size_t>(*head_bytes));
  if (absl::Status status = ReadAt(file, 0, absl::MakeSpan(&head[0], head.size())); !status.ok()) {
    return status;
  }
  return head;
}

absl::Status ArrivingCheckpoint::ReadHeader(File& file) const {
  absl::StatusOr<std::optional<std::string>> head = HeadOf(file);
  if (!head.ok()) return OfFile(file.manifest, head.status());
  if (!head->has_value()) return absl::OkStatus();
  const int64_t head_bytes = static_cast<int64_t>((*head)->size());
  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(file.manifest.name, absl::string_view(**head).substr(kPrefixBytes),
                             file.manifest.digest.size_bytes - head_bytes);
  if (!header.ok()) return BadModel(header.status());
  file.data_begin = head_bytes;
  file.header = *std::move(header);
  return absl::OkStatus();
}

absl::StatusOr<bool> ArrivingCheckpoint::ReadHeaders() {
  bool all = true;
  for (const std::unique_ptr<File>& file : files_) {
    if (file->header.has_value()) continue;
    if (absl::Status status = ReadHeader(*file); !status.ok()) return status;
    all = all && file->header.has_value();
  }
  if (all && file_of_.empty()) {
    if (absl::Status status = Index(); !status.ok()) return status;
  }
  return all;
}

absl::Status ArrivingCheckpoint::WaitForHeaders() {
  for (const std::unique_ptr<File>& file : files_) {
    const ModelFile& model_file = file->manifest;
    if (model_file.inline_content.has_value()) continue;
    absl::Status status = CheckHoldsPrefix(model_file);
    if (status.ok()) status = WaitFor(*file, kPrefixBytes);
    std::string prefix(kPrefixBytes, '\0');
    if (status.ok()) status = ReadAt(*file, 0, absl::MakeSpan(&prefix[0], prefix.size()));
    if (!status.ok()) return OfFile(model_file, status);
    const absl::StatusOr<int64_t> head_bytes = HeadBytes(model_file, prefix);
    if (!head_bytes.ok()) return head_bytes.status();
    status = WaitFor(*file, *head_bytes);
    if (!status.ok()) return status;
  }
  const absl::StatusOr<bool> all = ReadHeaders();
  if (!all.ok()) return all.status();
  if (*all) return absl::OkStatus();
  return absl::AbortedError("the upload of a weight file was begun anew while it was read");
}

absl::Status ArrivingCheckpoint::WaitForTensors(absl::Span<const TensorSpec> tensors) const {
  for (const TensorSpec& tensor : tensors) {
    const absl::StatusOr<const File*> file = FileOf(tensor.name);
    if (!file.ok()) return file.status();
    const absl::StatusOr<const TensorEntry*> entry = (*file)->header->Get(tensor.name);
    if (!entry.ok()) return BadModel(entry.status());
    const int64_t end = (*file)->data_begin + (*entry)->end;
    absl::Status status = WaitFor(**file, end);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ArrivingCheckpoint::Index() {
  std::vector<SafetensorsHeader*> headers;
  for (const std::unique_ptr<File>& file : files_) headers.push_back(&*file->header);
  auto places = PlaceTensors(manifest_.index.has_value() ? &*manifest_.index : nullptr, headers);
  if (!places.ok()) return BadModel(places.status());
  file_of_ = std::move(places->first);
  copies_ = std::move(places->copies);
  return absl::OkStatus();
}

absl::Status ArrivingCheckpoint::CheckCopy(const std::string& tensor, const File& other) const {
  const absl::StatusOr<const File*> first = FileOf(tensor);
  if (!first.ok()) return first.status();
  const auto read = [&](const File& file, int64_t offset, absl::Span<std::byte> bytes) {
    const int64_t begin = file.data_begin + file.header->Find(tensor)->begin;
    return ReadAt(file, begin + offset,
                  absl::MakeSpan(reinterpret_cast<char*>(bytes.data()), bytes.size()));
  };
  const auto read_first = [&](int64_t offset, absl::Span<std::byte> bytes) {
    return read(**first, offset, bytes);
  };
  const auto read_other = [&](int64_t offset, absl::Span<std::byte> bytes) {
    return read(other, offset, bytes);
  };
  absl::Status status =
      CheckCopies(tensor, (*first)->header->Find(tensor)->SizeBytes(),
                  {(*first)->manifest.name, read_first}, {other.manifest.name, read_other});
  return absl::IsInvalidArgument(status) ? BadModel(status) : status;
}

int64_t ArrivingCheckpoint::TensorBytes() const {
  int64_t bytes = 0;
  for (const std::unique_ptr<File>& file : files_) {
    for (const TensorEntry& entry : file->header->tensors()) bytes += entry.SizeBytes();
  }
  return bytes;
}

std::vector<std::string> ArrivingCheckpoint::TensorNames() const {
  std::vector<std::string> names;
  for (const auto& [tensor, file] : file_of_) names.push_back(tensor);
  return names;
}

absl::Status ArrivingCheckpoint::CheckInline(const File& file) const {
  if (!file.manifest.inline_content.has_value()) return absl::OkStatus();
  {
    const MutexLock lock(file.mu);
    if (file.inline_checked) return absl::OkStatus();
  }
  const std::string& expected = *file.manifest.inline_content;
  std::string actual(expected.size(), '\0');
  if (absl::Status status = ReadAt(file, 0, absl::MakeSpan(&actual[0], actual.size()));
      !status.ok()) {
    return status;
  }
  if (actual != expected) {
    const auto differs = std::mismatch(actual.begin(), actual.end(), expected.begin()).first;
    return InvalidCall(Reason::kDigestMismatch,
                       absl::StrCat(file.manifest.name, ": inline_content differs from the blob ",
                                    ToString(file.manifest.digest), " at byte ",
                                    differs - actual.begin(), "; expected its first bytes"));
  }
  const MutexLock lock(file.mu);
  file.inline_checked = true;
  return absl::OkStatus();
}

absl::Status ArrivingCheckpoint::CheckInlineContent() const {
  for (const std::unique_ptr<File>& file : files_) {
    absl::Status status = CheckInline(*file);
    if (!status.ok()) return OfFile(file->manifest, status);
  }
  for (const auto& [tensor, file] : copies_) {
    if (absl::Status status = CheckCopy(tensor, *files_[file]); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<const ArrivingCheckpoint::File*> ArrivingCheckpoint::FileOf(
    absl::string_view tensor) const {
  const auto found =
      std::lower_bound(file_of_.begin(), file_of_.end(), tensor,
                       [](const auto& row, absl::string_view name) { return row.first < name; });
  if (found != file_of_.end() && found->first == tensor) return files_[found->second].get();
  return absl::NotFoundError(
      absl::StrCat(name_, ": tensor ", QuoteForMessage(tensor), " is in no file"));
}

absl::StatusOr<TensorLocation> ArrivingCheckpoint::Find(absl::string_view tensor) const {
  const absl::StatusOr<const File*> file = FileOf(tensor);
  if (!file.ok()) return file.status();
  const absl::StatusOr<const TensorEntry*> entry = (*file)->header->Get(tensor);
  if (!entry.ok()) return entry.status();
  return TensorLocation{(*file)->manifest.name, *entry};
}

bool ArrivingCheckpoint::IsHere(absl::string_view tensor) const {
  const absl::StatusOr<const File*> found = FileOf(tensor);
  if (!found.ok()) return false;
  const File& file = **found;
  const TensorEntry* entry = file.header->Find(tensor);
  if (entry == nullptr) return false;
  const ModelFile& model_file = file.manifest;
  int64_t end = file.data_begin + entry->end;
  if (model_file.inline_content.has_value()) {
    end = std::max(end, static_cast<int64_t>(model_file.inline_content->size()));
  }
  const BlobStatus blob = store_.Status(model_file.digest);
  return blob.complete || blob.committed_bytes >= end;
}

absl::Status ArrivingCheckpoint::ReadRange(absl::string_view tensor, int64_t offset,
                                           absl::Span<std::byte> bytes) const {
  const absl::StatusOr<const File*> found = FileOf(tensor);
  if (!found.ok()) return found.status();
  const File& file = **found;
  const absl::StatusOr<const TensorEntry*> got = file.header->Get(tensor);
  if (!got.ok()) return BadModel(got.status());
  const TensorEntry& entry = **got;
  const int64_t count = static_cast<int64_t>(bytes.size());
  if (offset < 0 || offset > entry.SizeBytes() || count > entry.SizeBytes() - offset) {
    return absl::OutOfRangeError(absl::StrCat(file.manifest.name, ": tensor ", tensor,
                                              ": range of ", count, " bytes at ", offset,
                                              "; expected within ", entry.SizeBytes(), " bytes"));
  }
  if (count == 0) return absl::OkStatus();
  const int64_t begin = file.data_begin + entry.begin + offset;
  // The header, and what was inline of it, lies before any tensor; inline content may be longer.
  const int64_t inline_bytes = file.manifest.inline_content.has_value()
                                   ? static_cast<int64_t>(file.manifest.inline_content->size())
                                   : 0;
  absl::Status status;
  if (arrival_ != nullptr && std::this_thread::get_id() == owner_) {
    status = WaitFor(file, std::max(begin + count, inline_bytes));
  }
  if (!status.ok()) return status;
  status = CheckInline(file);
  if (status.ok()) {
    status =
        ReadAt(file, begin, absl::MakeSpan(reinterpret_cast<char*>(bytes.data()), bytes.size()));
  }
  if (!absl::IsDataLoss(status)) return status;
  const MutexLock lock(file.mu);
  if (file.damage.ok()) {
    file.damage = WithReason(
        absl::DataLossError(absl::StrCat(file.manifest.name, ": tensor ", tensor, ": bytes ",
                                         offset, " to ", offset + count, ": ", status.message())),
        Reason::kBlobDamaged);
  }
  return file.damage;
}

}  // namespace salient
