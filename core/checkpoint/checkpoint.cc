#include "core/checkpoint/checkpoint.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/file/regular_file.h"
#include "core/text/quote.h"

namespace salient {
namespace {

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t max_bytes) {
  const absl::StatusOr<RegularFile> file = RegularFile::Open(path);
  if (!file.ok()) return file.status();
  if (file->bytes() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": file has ", file->bytes(), " bytes; expected at most ", max_bytes));
  }
  std::string text(static_cast<size_t>(file->bytes()), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = read(file->fd(), text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot read"));
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  text.resize(done);
  return text;
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& directory) {
  const std::string single = absl::StrCat(directory, "/", kSingleFileName);
  const std::string index_path = absl::StrCat(directory, "/", kShardIndexName);
  const bool has_single = Exists(single);
  std::optional<ShardIndex> index;
  std::vector<std::string> names = {kSingleFileName};
  if (Exists(index_path)) {
    const auto text = ReadTextFile(index_path, kMaxShardIndexBytes);
    if (!text.ok()) return text.status();
    auto parsed = ParseShardIndex(index_path, *text);
    if (!parsed.ok()) return parsed.status();
    if (absl::Status status = CheckIndexBesideFile(*parsed, has_single); !status.ok()) {
      return status;
    }
    index = *std::move(parsed);
    names = index->files;
  } else if (!has_single) {
    return absl::NotFoundError(absl::StrCat(directory, ": has neither ", kSingleFileName, " nor ",
                                            kShardIndexName, "; expected one of them"));
  }
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  for (const std::string& name : names) {
    auto file = SafetensorsFile::Open(absl::StrCat(directory, "/", name));
    if (!file.ok()) return file.status();
    checkpoint.files_.push_back(*std::move(file));
  }
  std::vector<SafetensorsHeader*> headers;
  for (SafetensorsFile& file : checkpoint.files_) headers.push_back(&file.mutable_header());
  auto places = PlaceTensors(index.has_value() ? &*index : nullptr, headers);
  if (!places.ok()) return places.status();
  checkpoint.file_of_ = std::move(places->first);
  for (const auto& [tensor, file] : places->copies) {
    if (absl::Status status = checkpoint.CheckCopy(tensor, file); !status.ok()) return status;
  }
  return checkpoint;
}

absl::Status Checkpoint::CheckCopy(const std::string& tensor, size_t file) const {
  const auto first = FileOf(tensor);
  if (!first.ok()) return first.status();
  const SafetensorsFile& other = files_[file];
  const auto read_first = [&](int64_t offset, absl::Span<std::byte> bytes) {
    return (*first)->ReadRange(tensor, offset, bytes);
  };
  const auto read_other = [&](int64_t offset, absl::Span<std::byte> bytes) {
    return other.ReadRange(tensor, offset, bytes);
  };
  return CheckCopies(tensor, other.header().Find(tensor)->SizeBytes(),
                     {(*first)->header().source(), read_first},
                     {other.header().source(), read_other});
}

absl::StatusOr<const SafetensorsFile*> Checkpoint::FileOf(absl::string_view tensor) const {
  const auto found =
      std::lower_bound(file_of_.begin(), file_of_.end(), tensor,
                       [](const auto& row, absl::string_view name) { return row.first < name; });
  if (found != file_of_.end() && found->first == tensor) return &files_[found->second];
  return absl::NotFoundError(
      absl::StrCat(directory_, ": tensor ", QuoteForMessage(tensor), " is in no file"));
}

absl::StatusOr<TensorLocation> Checkpoint::Find(absl::string_view tensor) const {
  const auto file = FileOf(tensor);
  if (!file.ok()) return file.status();
  const SafetensorsHeader& header = (*file)->header();
  const auto entry = header.Get(tensor);
  if (!entry.ok()) return entry.status();
  return TensorLocation{header.source(), *entry};
}

absl::Status Checkpoint::ReadRange(absl::string_view tensor, int64_t offset,
                                   absl::Span<std::byte> bytes) const {
  const auto file = FileOf(tensor);
  if (!file.ok()) return file.status();
  return (*file)->ReadRange(tensor, offset, bytes);
}

absl::StatusOr<std::vector<std::byte>> Checkpoint::Read(absl::string_view tensor) const {
  const auto file = FileOf(tensor);
  if (!file.ok()) return file.status();
  return (*file)->ReadTensor(tensor);
}

std::vector<std::string> Checkpoint::TensorNames() const {
  std::vector<std::string> names;
  for (const auto& [tensor, file] : file_of_) names.push_back(tensor);
  return names;
}

}  // namespace salient
