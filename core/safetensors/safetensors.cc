#include "core/safetensors/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/safetensors/file_kind.h"

namespace salient {
namespace {

absl::Status TooSmall(absl::string_view source, int64_t file_bytes) {
  return absl::InvalidArgumentError(absl::StrCat(
      source, ": file has ", file_bytes, " bytes; expected at least ", kSafetensorsPrefixBytes));
}

absl::Status ReadAt(int fd, absl::string_view source, int64_t offset, std::byte* out,
                    int64_t count) {
  while (count > 0) {
    const ssize_t got = pread(fd, out, static_cast<size_t>(count), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat(source, ": cannot read"));
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(source, ": ends at byte ", offset, "; expected ",
                                              count, " more; did the file change?"));
    }
    out += got;
    offset += got;
    count -= got;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int64_t> SafetensorsHeaderBytes(absl::string_view source, absl::string_view prefix,
                                               int64_t file_bytes) {
  uint64_t bytes = 0;
  for (int i = 7; i >= 0; --i) bytes = bytes << 8 | static_cast<uint8_t>(prefix[i]);
  const int64_t rest = file_bytes - kSafetensorsPrefixBytes;
  if (bytes > 0 && bytes <= static_cast<uint64_t>(std::min(kMaxSafetensorsHeaderBytes, rest))) {
    return static_cast<int64_t>(bytes);
  }
  if (const absl::string_view kind = KindOfFile(prefix); !kind.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": is no safetensors file; it seems to be ", kind));
  }
  const bool is_cut = bytes <= static_cast<uint64_t>(kMaxSafetensorsHeaderBytes);
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": header length is ", bytes, " bytes; expected at most ",
                   is_cut ? absl::StrCat(rest, ", what follows the length in the file")
                          : absl::StrCat(kMaxSafetensorsHeaderBytes, " in a safetensors file")));
}

SafetensorsFile::SafetensorsFile(RegularFile file, int64_t data_begin, SafetensorsHeader header)
    : file_(std::move(file)), data_begin_(data_begin), header_(std::move(header)) {}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  auto opened = RegularFile::Open(path);
  if (!opened.ok()) return opened.status();
  const int fd = opened->fd();
  const int64_t file_bytes = opened->bytes();
  if (file_bytes < kSafetensorsPrefixBytes) return TooSmall(path, file_bytes);
  std::string prefix(kSafetensorsPrefixBytes, '\0');
  absl::Status status =
      ReadAt(fd, path, 0, reinterpret_cast<std::byte*>(prefix.data()), kSafetensorsPrefixBytes);
  if (!status.ok()) return status;
  const auto header_bytes = SafetensorsHeaderBytes(path, prefix, file_bytes);
  if (!header_bytes.ok()) return header_bytes.status();

  std::string json(static_cast<size_t>(*header_bytes), '\0');
  status = ReadAt(fd, path, kSafetensorsPrefixBytes, reinterpret_cast<std::byte*>(json.data()),
                  *header_bytes);
  if (!status.ok()) return status;
  const int64_t data_begin = kSafetensorsPrefixBytes + *header_bytes;
  auto header = ParseSafetensorsHeader(path, json, file_bytes - data_begin);
  if (!header.ok()) return header.status();
  return SafetensorsFile(*std::move(opened), data_begin, *std::move(header));
}

absl::StatusOr<std::vector<std::byte>> SafetensorsFile::ReadTensor(absl::string_view name) const {
  const auto entry = header_.Get(name);
  if (!entry.ok()) return entry.status();
  std::vector<std::byte> bytes(static_cast<size_t>((*entry)->SizeBytes()));
  absl::Status status = ReadRange(name, 0, absl::MakeSpan(bytes));
  if (!status.ok()) return status;
  return bytes;
}

absl::Status SafetensorsFile::ReadRange(absl::string_view name, int64_t offset,
                                        absl::Span<std::byte> bytes) const {
  const auto entry = header_.Get(name);
  if (!entry.ok()) return entry.status();
  const int64_t count = static_cast<int64_t>(bytes.size());
  if (offset < 0 || offset > (*entry)->SizeBytes() || count > (*entry)->SizeBytes() - offset) {
    return absl::OutOfRangeError(absl::StrCat(header_.source(), ": tensor ", name, ": range of ",
                                              count, " bytes at ", offset, "; expected within ",
                                              (*entry)->SizeBytes(), " bytes"));
  }
  return ReadAt(file_.fd(), header_.source(), data_begin_ + (*entry)->begin + offset, bytes.data(),
                count);
}

absl::StatusOr<SafetensorsView> SafetensorsView::Parse(absl::string_view source,
                                                       absl::Span<const std::byte> file) {
  const int64_t file_bytes = static_cast<int64_t>(file.size());
  if (file_bytes < kSafetensorsPrefixBytes) return TooSmall(source, file_bytes);
  const absl::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  const auto header_bytes =
      SafetensorsHeaderBytes(source, bytes.substr(0, kSafetensorsPrefixBytes), file_bytes);
  if (!header_bytes.ok()) return header_bytes.status();
  const absl::string_view json =
      bytes.substr(kSafetensorsPrefixBytes, static_cast<size_t>(*header_bytes));
  SafetensorsView view;
  view.data_ = file.subspan(static_cast<size_t>(kSafetensorsPrefixBytes + *header_bytes));
  auto header = ParseSafetensorsHeader(source, json, static_cast<int64_t>(view.data_.size()));
  if (!header.ok()) return header.status();
  view.header_ = *std::move(header);
  return view;
}

absl::StatusOr<absl::Span<const std::byte>> SafetensorsView::Tensor(absl::string_view name) const {
  const auto entry = header_.Get(name);
  if (!entry.ok()) return entry.status();
  return data_.subspan(static_cast<size_t>((*entry)->begin),
                       static_cast<size_t>((*entry)->SizeBytes()));
}

}  // namespace salient
