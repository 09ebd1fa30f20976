#include "core/checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

constexpr int64_t kPrefixBytes = 8;

// Where the JSON of a file of `file_bytes` lies, from its first 8 bytes.
absl::StatusOr<int64_t> HeaderBytes(absl::string_view source, const std::byte* prefix,
                                    int64_t file_bytes) {
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | static_cast<uint8_t>(prefix[i]);
  if (header_bytes > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": header length is ", header_bytes,
                                                   " bytes; expected at most ",
                                                   kMaxSafetensorsHeaderBytes));
  }
  if (static_cast<int64_t>(header_bytes) > file_bytes - kPrefixBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": header length is ", header_bytes, " bytes; expected at most ",
                     file_bytes - kPrefixBytes, ", what follows the length in the file"));
  }
  return static_cast<int64_t>(header_bytes);
}

absl::Status TooSmall(absl::string_view source, int64_t file_bytes) {
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": file has ", file_bytes, " bytes; expected at least ", kPrefixBytes));
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

SafetensorsFile::SafetensorsFile(int fd, int64_t data_begin, SafetensorsHeader header)
    : fd_(fd), data_begin_(data_begin), header_(std::move(header)) {}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      data_begin_(other.data_begin_),
      header_(std::move(other.header_)) {}

SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_begin_, other.data_begin_);
  std::swap(header_, other.header_);
  return *this;
}

SafetensorsFile::~SafetensorsFile() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer. Regular files ignore it.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  SafetensorsFile file(fd, 0, SafetensorsHeader());  // closes fd on every return below

  struct stat info;
  if (fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot stat"));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not a regular file"));
  }
  if (info.st_size < kPrefixBytes) return TooSmall(path, info.st_size);
  std::byte prefix[kPrefixBytes];
  if (absl::Status status = ReadAt(fd, path, 0, prefix, kPrefixBytes); !status.ok()) return status;
  const auto header_bytes = HeaderBytes(path, prefix, info.st_size);
  if (!header_bytes.ok()) return header_bytes.status();

  std::string json(static_cast<size_t>(*header_bytes), '\0');
  if (absl::Status status =
          ReadAt(fd, path, kPrefixBytes, reinterpret_cast<std::byte*>(json.data()), *header_bytes);
      !status.ok()) {
    return status;
  }
  file.data_begin_ = kPrefixBytes + *header_bytes;
  auto header = ParseSafetensorsHeader(path, json, info.st_size - file.data_begin_);
  if (!header.ok()) return header.status();
  file.header_ = *std::move(header);
  return file;
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
  return ReadAt(fd_, header_.source(), data_begin_ + (*entry)->begin + offset, bytes.data(), count);
}

absl::StatusOr<SafetensorsView> SafetensorsView::Parse(absl::string_view source,
                                                       absl::Span<const std::byte> file) {
  const int64_t file_bytes = static_cast<int64_t>(file.size());
  if (file_bytes < kPrefixBytes) return TooSmall(source, file_bytes);
  const auto header_bytes = HeaderBytes(source, file.data(), file_bytes);
  if (!header_bytes.ok()) return header_bytes.status();
  const absl::string_view json(reinterpret_cast<const char*>(file.data()) + kPrefixBytes,
                               static_cast<size_t>(*header_bytes));
  SafetensorsView view;
  view.data_ = file.subspan(static_cast<size_t>(kPrefixBytes + *header_bytes));
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
