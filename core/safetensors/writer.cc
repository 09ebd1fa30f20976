#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/file/durable_write.h"
#include "core/file/growing_name.h"
#include "core/safetensors/layout.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/named_tensor.h"
#include "core/text/quote.h"

namespace salient {
namespace {

constexpr char kPartialSuffix[] = ".partial-";
constexpr int kMaxWriters = 1000;  // So many may write one path at a time.

// Holds what is written: the head, then the tensors' bytes in this order.
struct Arranged {
  std::string head;
  std::vector<TensorToWrite> tensors;
};

absl::StatusOr<Arranged> Arrange(absl::string_view source, absl::Span<const TensorToWrite> tensors,
                                 const std::map<std::string, std::string>& metadata) {
  std::vector<TensorShape> shapes;
  std::map<absl::string_view, const TensorToWrite*> by_name;
  for (const TensorToWrite& tensor : tensors) {
    shapes.push_back(
        {std::string(tensor.name), tensor.dtype, {tensor.shape.begin(), tensor.shape.end()}});
    by_name[tensor.name] = &tensor;
  }
  auto layout = LayOutSafetensors(source, shapes, metadata);
  if (!layout.ok()) return layout.status();
  Arranged arranged{std::move(layout->head), {}};
  for (const SafetensorsLayout::Place& place : layout->places) {
    const TensorToWrite& tensor = *by_name.at(place.tensor.name);
    const int64_t expected = place.end - place.begin;
    if (static_cast<int64_t>(tensor.data.size()) != expected) {
      return absl::InvalidArgumentError(absl::StrCat(
          source, ": tensor ", QuoteForMessage(tensor.name), ": data has ", tensor.data.size(),
          " bytes; expected ", expected, " for its shape and ", Name(tensor.dtype)));
    }
    arranged.tensors.push_back(tensor);
  }
  return arranged;
}

absl::Status WriteArranged(int fd, const std::string& path, const Arranged& arranged) {
  absl::Status status = WriteAt(fd, path, 0, arranged.head.data(), arranged.head.size());
  auto position = static_cast<int64_t>(arranged.head.size());
  for (const TensorToWrite& tensor : arranged.tensors) {
    if (status.ok()) status = WriteAt(fd, path, position, tensor.data.data(), tensor.data.size());
    position += static_cast<int64_t>(tensor.data.size());
  }
  return status;
}

struct PartialFile {
  std::string path;
  int fd;
};

// Opens an empty file beside `path` that two writers of one path do not share. What a killed writer
// left is written over.
absl::StatusOr<PartialFile> OpenPartial(const std::string& path) {
  for (int attempt = 0; attempt < kMaxWriters; ++attempt) {
    const std::string partial = GrowingName(path, absl::StrCat(kPartialSuffix, attempt));
    int fd = open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const bool is_new = fd >= 0;
    if (!is_new && errno != EEXIST) return FileError(errno, partial, "create");
    if (!is_new) fd = open(partial.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    const NameLock lock = LockName(fd, partial);
    if (lock == NameLock::kOurs || (lock == NameLock::kUnknown && is_new)) {
      if (ftruncate(fd, 0) == 0) return PartialFile{partial, fd};
      return CloseAfter(fd, partial, FileError(errno, partial, "truncate"));
    }
    close(fd);
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(path, ": has ", kMaxWriters, " writers; expected fewer"));
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
  const auto arranged = Arrange("safetensors to write", tensors, metadata);
  if (!arranged.ok()) return arranged.status();
  size_t size = arranged->head.size();
  for (const TensorToWrite& tensor : arranged->tensors) size += tensor.data.size();
  std::vector<std::byte> bytes;
  bytes.reserve(size);
  const auto* head = reinterpret_cast<const std::byte*>(arranged->head.data());
  bytes.insert(bytes.end(), head, head + arranged->head.size());
  for (const TensorToWrite& tensor : arranged->tensors) {
    bytes.insert(bytes.end(), tensor.data.begin(), tensor.data.end());
  }
  return bytes;
}

absl::Status WriteSafetensors(const std::string& path, absl::Span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata) {
  const auto arranged = Arrange(path, tensors, metadata);
  if (!arranged.ok()) return arranged.status();

  auto file = OpenPartial(path);
  if (!file.ok()) return file.status();
  const std::string& partial = file->path;

  absl::Status status = WriteArranged(file->fd, partial, *arranged);
  // It stays locked until it has its name, or is gone.
  if (status.ok()) status = TakeName(file->fd, partial, path);
  if (!status.ok()) unlink(partial.c_str());
  return CloseAfter(file->fd, partial, std::move(status));
}

}  // namespace salient
