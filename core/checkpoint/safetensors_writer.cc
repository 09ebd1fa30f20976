#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/checkpoint/json.h"
#include "core/checkpoint/safetensors.h"

namespace salient {
namespace {

// What is written: the length and the JSON, then the tensors' bytes in this order.
struct Layout {
  std::string head;
  std::vector<TensorToWrite> tensors;
};

absl::StatusOr<Layout> Arrange(absl::string_view source, absl::Span<const TensorToWrite> tensors,
                               std::map<std::string, std::string> metadata) {
  Layout layout;
  layout.tensors.assign(tensors.begin(), tensors.end());
  std::sort(layout.tensors.begin(), layout.tensors.end(),
            [](const TensorToWrite& a, const TensorToWrite& b) {
              return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
            });

  metadata.insert_or_assign("format", "pt");
  std::string json = absl::StrCat("{\"__metadata__\":{",
                                  absl::StrJoin(metadata, ",",
                                                [](std::string* out, const auto& item) {
                                                  absl::StrAppend(out, JsonQuote(item.first), ":",
                                                                  JsonQuote(item.second));
                                                }),
                                  "}");
  int64_t position = 0;
  for (const TensorToWrite& tensor : layout.tensors) {
    const int64_t end = position + static_cast<int64_t>(tensor.data.size());
    absl::StrAppend(&json, ",", JsonQuote(tensor.name), ":{\"dtype\":\"", Name(tensor.dtype),
                    "\",\"shape\":[", absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[",
                    position, ",", end, "]}");
    position = end;
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');

  // Our own reader judges names, shapes, sizes, limits and UTF-8: what is written can be read.
  const auto header = ParseSafetensorsHeader(source, json, position);
  if (!header.ok()) return header.status();

  for (int i = 0; i < 8; ++i) layout.head += static_cast<char>(json.size() >> (8 * i) & 0xFF);
  layout.head += json;
  return layout;
}

absl::Status WriteAll(int fd, const std::string& path, const void* data, size_t count) {
  const char* bytes = static_cast<const char*>(data);
  while (count > 0) {
    const ssize_t written = write(fd, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot write"));
    bytes += written;
    count -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status WriteLayout(int fd, const std::string& path, const Layout& layout) {
  absl::Status status = WriteAll(fd, path, layout.head.data(), layout.head.size());
  for (const TensorToWrite& tensor : layout.tensors) {
    if (status.ok()) status = WriteAll(fd, path, tensor.data.data(), tensor.data.size());
  }
  if (status.ok() && fsync(fd) != 0) {
    status = absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot sync"));
  }
  return status;
}

// The rename itself must survive a power cut.
absl::Status SyncDirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat(directory, ": cannot open"));
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  if (result == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(error, absl::StrCat(directory, ": cannot sync"));
}

}  // namespace

std::vector<TensorToWrite> ToWrite(absl::Span<const NamedTensor> tensors) {
  std::vector<TensorToWrite> result;
  for (const NamedTensor& tensor : tensors) {
    result.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.data});
  }
  return result;
}

absl::StatusOr<std::vector<std::byte>> SerializeSafetensors(
    absl::Span<const TensorToWrite> tensors, const std::map<std::string, std::string>& metadata) {
  const auto layout = Arrange("safetensors to write", tensors, metadata);
  if (!layout.ok()) return layout.status();
  size_t size = layout->head.size();
  for (const TensorToWrite& tensor : layout->tensors) size += tensor.data.size();
  std::vector<std::byte> bytes;
  bytes.reserve(size);
  const auto* head = reinterpret_cast<const std::byte*>(layout->head.data());
  bytes.insert(bytes.end(), head, head + layout->head.size());
  for (const TensorToWrite& tensor : layout->tensors) {
    bytes.insert(bytes.end(), tensor.data.begin(), tensor.data.end());
  }
  return bytes;
}

absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata) {
  const auto layout = Arrange(path, tensors, metadata);
  if (!layout.ok()) return layout.status();

  // A name of its own, so that two writers of one path do not write into each other; what a
  // killed writer left is passed over.
  std::string partial;
  int fd = -1;
  for (int attempt = 0; attempt < 1000 && fd < 0; ++attempt) {
    partial = absl::StrCat(path, ".partial-", attempt);
    fd = open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST) break;
  }
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat(partial, ": cannot create"));

  absl::Status status = WriteLayout(fd, partial, *layout);
  if (close(fd) != 0 && status.ok()) {
    status = absl::ErrnoToStatus(errno, absl::StrCat(partial, ": cannot close"));
  }
  if (status.ok() && std::rename(partial.c_str(), path.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot rename into place"));
  }
  if (!status.ok()) {
    unlink(partial.c_str());
    return status;
  }
  return SyncDirectoryOf(path);
}

}  // namespace salient
