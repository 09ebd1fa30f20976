#include "client/jobs/model_upload.h"

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/jobs/result_directory.h"
#include "client/transfer/file_digest.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/model_directory.h"
#include "core/checkpoint/shard_index.h"
#include "core/safetensors/safetensors.h"

namespace salient::client {
namespace {

constexpr int64_t kLengthBytes = 8;  // They stand before a safetensors header.

// Is a file of the model and how it is described.
struct Part {
  std::string name;
  bool judged_by = false;  // It is config or index, which is needed before any work.
  bool carried = false;    // It is taken along and never read.
  std::string content;     // It is for inline_content.
};

// Length and JSON of a safetensors file that was opened before, so it has them. Empty if they are
// more than `max_bytes`.
absl::StatusOr<std::string> HeadOf(const std::string& path, int64_t max_bytes) {
  std::ifstream file(path, std::ios::binary);
  uint64_t length = 0;  // It is little-endian, as every machine we run on.
  file.read(reinterpret_cast<char*>(&length), kLengthBytes);
  if (!file || length > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    return absl::DataLossError(absl::StrCat(path, ": changed while it was read"));
  }
  if (static_cast<int64_t>(length) + kLengthBytes > max_bytes) return std::string();
  std::string head(static_cast<size_t>(length) + kLengthBytes, '\0');
  std::memcpy(head.data(), &length, kLengthBytes);
  file.read(head.data() + kLengthBytes, static_cast<std::streamsize>(length));
  if (!file) return absl::DataLossError(absl::StrCat(path, ": changed while it was read"));
  return head;
}

std::set<std::string> WeightNames(const Checkpoint& checkpoint) {
  std::set<std::string> names;
  for (const SafetensorsFile& file : checkpoint.files()) {
    names.insert(std::filesystem::path(file.header().source()).filename().string());
  }
  return names;
}

// Returns the parts in the order of the upload, with contents as far as `inline_bytes` goes.
absl::StatusOr<std::vector<Part>> PartsOf(const std::string& directory, int64_t inline_bytes) {
  const auto checkpoint = Checkpoint::Open(directory);
  if (!checkpoint.ok()) return checkpoint.status();
  const auto files = ListModelDirectory(directory);
  if (!files.ok()) return files.status();

  const std::set<std::string> weights = WeightNames(*checkpoint);
  std::vector<Part> judged;
  std::vector<Part> read;
  std::vector<Part> carried;
  for (const DirectoryFile& file : *files) {
    const std::string path = absl::StrCat(directory, "/", file.name);
    if (file.role == FileRole::kConfig || file.role == FileRole::kIndex) {
      auto text = ReadTextFile(
          path, file.role == FileRole::kConfig ? kMaxConfigBytes : kMaxShardIndexBytes);
      if (!text.ok()) return text.status();
      judged.push_back({file.name, true, false, *std::move(text)});
    } else if (weights.count(file.name) > 0) {
      // Names of shards are numbered in the order of blocks.
      read.push_back({file.name, false, false, ""});
    } else if (file.role == FileRole::kCarried) {
      carried.push_back({file.name, false, true, ""});
    }
  }

  for (Part& part : judged) {
    if (static_cast<int64_t>(part.content.size()) > inline_bytes) part.content.clear();
    inline_bytes -= static_cast<int64_t>(part.content.size());
  }
  for (Part& part : read) {
    auto head = HeadOf(absl::StrCat(directory, "/", part.name), inline_bytes);
    if (!head.ok()) return head.status();
    part.content = *std::move(head);
    inline_bytes -= static_cast<int64_t>(part.content.size());
  }
  std::vector<Part> parts = std::move(judged);
  for (auto* more : {&read, &carried}) {
    for (Part& part : *more) parts.push_back(std::move(part));
  }
  return parts;
}

// Returns NOT_FOUND naming the file.
absl::StatusOr<int64_t> SizeOf(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path, ": ", error.message()));
  return static_cast<int64_t>(size);
}

// Takes what `part` has.
void AddFile(Part& part, const v1::Digest& digest, ModelUpload& upload) {
  v1::ModelFile& file = *upload.manifest.add_files();
  file.set_name(std::move(part.name));
  *file.mutable_digest() = digest;
  file.set_inline_content(std::move(part.content));
}

// With `headers_alone` what no header is in is left out, and of files whose header goes inline the
// size alone is told.
absl::StatusOr<ModelUpload> Describe(const std::string& directory, int64_t inline_bytes,
                                     bool headers_alone,
                                     absl::FunctionRef<bool(int64_t bytes)> read) {
  if (auto good = CheckModelDirectory(directory); !good.ok()) return good;
  auto parts = PartsOf(directory, inline_bytes);
  if (!parts.ok()) return parts.status();
  ModelUpload upload;
  for (Part& part : *parts) {
    if (headers_alone && part.carried) continue;
    LocalBlob blob;
    blob.source = absl::StrCat(directory, "/", part.name);
    if (headers_alone && !part.judged_by && !part.content.empty()) {
      const auto size = SizeOf(blob.source);
      if (!size.ok()) return size.status();
      blob.digest.set_size_bytes(*size);
    } else {
      auto digest = DigestOfFile(blob.source, read);
      if (!digest.ok()) return digest.status();
      blob.digest = *std::move(digest);
    }
    const bool needed_first = part.judged_by && part.content.empty();
    AddFile(part, blob.digest, upload);
    if (needed_first) {
      upload.first.push_back(std::move(blob));
    } else if (!headers_alone) {
      upload.rest.push_back(std::move(blob));
    }
  }
  return upload;
}

}  // namespace

int64_t ModelUpload::Bytes() const {
  int64_t bytes = 0;
  for (const v1::ModelFile& file : manifest.files()) bytes += file.digest().size_bytes();
  return bytes;
}

absl::Status CheckModelDirectory(const std::string& directory) {
  if (absl::Status text = CheckPathIsText(directory); !text.ok()) return text;
  if (absl::Status status = CheckIsModelDirectory(directory); !status.ok()) return status;
  const auto config = ReadTextFile(absl::StrCat(directory, "/", kConfigName), kMaxConfigBytes);
  if (!config.ok()) return config.status();
  return Checkpoint::Open(directory).status();
}

absl::StatusOr<int64_t> BytesToHash(const std::string& directory) {
  const auto parts = PartsOf(directory, 0);
  if (!parts.ok()) return parts.status();
  int64_t bytes = 0;
  for (const Part& part : *parts) {
    // A file that went away is named when it is hashed.
    bytes += SizeOf(absl::StrCat(directory, "/", part.name)).value_or(0);
  }
  return bytes;
}

absl::StatusOr<ModelUpload> DescribeModel(const std::string& directory, int64_t inline_bytes,
                                          absl::FunctionRef<bool(int64_t bytes)> read) {
  return Describe(directory, inline_bytes, /*headers_alone=*/false, read);
}

absl::StatusOr<ModelUpload> DescribeHeaders(const std::string& directory, int64_t inline_bytes,
                                            absl::FunctionRef<bool(int64_t bytes)> read) {
  return Describe(directory, inline_bytes, /*headers_alone=*/true, read);
}

}  // namespace salient::client
