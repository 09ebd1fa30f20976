#include "core/checkpoint/checkpoint_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/byte_coverage.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/durable_write.h"
#include "core/checkpoint/json.h"
#include "core/checkpoint/shard_index.h"

namespace salient {
namespace {

constexpr size_t kCopyBytes = size_t{1} << 20;

// `mode`: of the directory that it will replace; nullopt if there is none.
absl::StatusOr<std::string> MakeTemporary(const std::string& directory,
                                          std::optional<mode_t> mode) {
  std::random_device random;
  while (true) {
    const std::string path =
        absl::StrCat(directory, ".incomplete-", absl::Hex(random(), absl::kZeroPad8));
    if (mkdir(path.c_str(), 0777) != 0) {
      if (errno == EEXIST) continue;
      return FileError(errno, path, "create");
    }
    if (mode.has_value() && chmod(path.c_str(), *mode & 07777) != 0) {
      const int error = errno;
      rmdir(path.c_str());
      return FileError(error, path, "set the mode of");
    }
    return path;
  }
}

absl::Status Taken(const std::string& directory) {
  return absl::AlreadyExistsError(
      absl::StrCat(directory, ": is there already; expected nothing, or an empty directory"));
}

// Gives the directory its final name, over an empty one if there is one.
absl::Status Rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR) return Taken(to);
  return FileError(errno, to, "take the place of");
}

struct TensorBeingWritten {
  std::string file;
  int64_t begin = 0;  // in the file
  int64_t end = 0;
  ByteCoverage written;
};

}  // namespace

struct CheckpointWriter::State {
  std::string directory;
  std::string temporary;  // empty after Commit

  std::mutex mutex;
  std::vector<std::string> files;
  std::map<std::string, TensorBeingWritten, std::less<>> tensors;
  absl::Status failure;  // of a write; what it left is unknown, so nothing can be committed

  ~State() {
    std::error_code ignored;
    if (!temporary.empty()) std::filesystem::remove_all(temporary, ignored);
  }

  std::string PathOf(absl::string_view name) const { return absl::StrCat(temporary, "/", name); }

  // A new file of this name, open for writing.
  absl::StatusOr<int> CreateFile(absl::string_view name) {
    if (!IsPlainFileName(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(directory, ": file name is ", QuoteForMessage(name),
                       "; expected a name in the same directory, without separators and leading "
                       "dot, of at most ",
                       kMaxFileNameBytes, " bytes"));
    }
    const std::string path = PathOf(name);
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return FileError(errno, path, "create");
    const std::lock_guard<std::mutex> lock(mutex);
    files.emplace_back(name);
    return fd;
  }

  absl::Status Keep(absl::Status status) {
    if (status.ok()) return status;
    const std::lock_guard<std::mutex> lock(mutex);
    failure.Update(status);
    return status;
  }
};

CheckpointWriter::CheckpointWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
CheckpointWriter::CheckpointWriter(CheckpointWriter&&) noexcept = default;
CheckpointWriter& CheckpointWriter::operator=(CheckpointWriter&&) noexcept = default;
CheckpointWriter::~CheckpointWriter() = default;

absl::StatusOr<CheckpointWriter> CheckpointWriter::Create(const std::string& directory) {
  auto state = std::make_unique<State>();
  state->directory = directory;
  while (state->directory.size() > 1 && state->directory.back() == '/') state->directory.pop_back();
  if (directory.empty()) {
    return absl::InvalidArgumentError("directory is \"\"; expected the name of one to write");
  }
  struct stat info;
  const bool exists = stat(state->directory.c_str(), &info) == 0;
  if (exists) {
    std::error_code error;
    if (!S_ISDIR(info.st_mode) || !std::filesystem::is_empty(state->directory, error)) {
      return error ? FileError(error.value(), state->directory, "read") : Taken(state->directory);
    }
    // What a link leads to is replaced, not the link.
    state->directory = std::filesystem::canonical(state->directory, error).string();
    if (error) return FileError(error.value(), directory, "resolve");
  }
  const std::optional<mode_t> mode = exists ? std::make_optional(info.st_mode) : std::nullopt;
  auto temporary = MakeTemporary(state->directory, mode);
  if (!temporary.ok()) return temporary.status();
  state->temporary = *std::move(temporary);
  if (exists) {
    // Replacing a mount point fails, for one. Better now than when all the work is done.
    if (absl::Status status = Rename(state->temporary, state->directory); !status.ok()) {
      return status;
    }
    temporary = MakeTemporary(state->directory, mode);
    if (!temporary.ok()) return temporary.status();
    state->temporary = *std::move(temporary);
  }
  return CheckpointWriter(std::move(state));
}

absl::Status CheckpointWriter::WriteFile(absl::string_view name, absl::string_view content) {
  const auto fd = state_->CreateFile(name);
  if (!fd.ok()) return fd.status();
  const std::string path = state_->PathOf(name);
  return state_->Keep(CloseAfter(*fd, path, WriteAt(*fd, path, 0, content.data(), content.size())));
}

absl::Status CheckpointWriter::CopyFile(absl::string_view name, const std::string& source) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer. Regular files ignore it.
  const int from = open(source.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (from < 0) return FileError(errno, source, "open");
  const absl::Cleanup close_source = [from] { close(from); };
  struct stat info;
  if (fstat(from, &info) != 0) return FileError(errno, source, "stat");
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": is not a regular file"));
  }
  const auto to = state_->CreateFile(name);
  if (!to.ok()) return to.status();
  const std::string path = state_->PathOf(name);
  std::vector<char> range(kCopyBytes);
  absl::Status status;
  for (int64_t offset = 0; status.ok();) {
    const ssize_t got = read(from, range.data(), range.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) status = FileError(errno, source, "read");
    if (got <= 0) break;
    status = WriteAt(*to, path, offset, range.data(), static_cast<size_t>(got));
    offset += got;
  }
  return state_->Keep(CloseAfter(*to, path, std::move(status)));
}

absl::Status CheckpointWriter::AddSafetensors(absl::string_view name,
                                              const SafetensorsLayout& layout) {
  if (absl::Status status = CheckShardName(state_->directory, name); !status.ok()) return status;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    for (const SafetensorsLayout::Place& place : layout.places) {
      const auto other = state_->tensors.find(place.tensor.name);
      if (other == state_->tensors.end()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(state_->directory, "/", name, ": tensor ", QuoteForMessage(other->first),
                       " is also in ", other->second.file, "; expected it in one file only"));
    }
  }
  const auto fd = state_->CreateFile(name);
  if (!fd.ok()) return fd.status();
  const std::string path = state_->PathOf(name);
  absl::Status status = MakeRoom(*fd, path, layout.file_bytes);
  if (status.ok()) status = WriteAt(*fd, path, 0, layout.head.data(), layout.head.size());
  status = state_->Keep(CloseAfter(*fd, path, std::move(status)));
  if (!status.ok()) return status;
  const std::lock_guard<std::mutex> lock(state_->mutex);
  for (const SafetensorsLayout::Place& place : layout.places) {
    state_->tensors[place.tensor.name] = {std::string(name), place.begin, place.end, {}};
  }
  return absl::OkStatus();
}

absl::Status CheckpointWriter::WriteTensor(absl::string_view tensor, int64_t offset,
                                           absl::Span<const std::byte> bytes) {
  std::string path;
  int64_t position = 0;
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    const auto found = state_->tensors.find(tensor);
    if (found == state_->tensors.end()) {
      return absl::NotFoundError(
          absl::StrCat(state_->directory, ": tensor ", QuoteForMessage(tensor), " is in no file"));
    }
    TensorBeingWritten& target = found->second;
    const int64_t size = target.end - target.begin;
    const auto count = static_cast<int64_t>(bytes.size());
    const std::string range =
        absl::StrCat(state_->directory, "/", target.file, ": tensor ", QuoteForMessage(tensor),
                     ": range of ", count, " bytes at ", offset);
    if (offset < 0 || offset > size || count > size - offset) {
      return absl::OutOfRangeError(absl::StrCat(range, "; expected within ", size, " bytes"));
    }
    if (!target.written.Add(offset, offset + count)) {
      return absl::InvalidArgumentError(
          absl::StrCat(range, " was written before, in part at least; expected each byte once"));
    }
    path = state_->PathOf(target.file);
    position = target.begin + offset;
  }
  // Opened anew for each range: a model of thousands of files needs no thousands of descriptors.
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return state_->Keep(FileError(errno, path, "open"));
  return state_->Keep(
      CloseAfter(fd, path, WriteAt(fd, path, position, bytes.data(), bytes.size())));
}

absl::Status CheckpointWriter::Commit() {
  if (!state_->failure.ok()) return state_->failure;
  if (state_->temporary.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(state_->directory, ": is committed already"));
  }
  for (const auto& [name, tensor] : state_->tensors) {
    const int64_t size = tensor.end - tensor.begin;
    const int64_t written = tensor.written.Bytes();
    if (written == size) continue;
    return absl::InternalError(absl::StrCat(state_->directory, "/", tensor.file, ": tensor ",
                                            QuoteForMessage(name), ": ", written,
                                            " bytes were written; expected ", size));
  }
  for (const std::string& file : state_->files) {
    if (absl::Status status = SyncPath(state_->PathOf(file)); !status.ok()) return status;
  }
  if (absl::Status status = SyncPath(state_->temporary); !status.ok()) return status;
  if (absl::Status status = Rename(state_->temporary, state_->directory); !status.ok()) {
    return status;
  }
  state_->temporary.clear();
  // The rename itself must survive a power cut.
  return SyncPath(ParentOf(state_->directory));
}

}  // namespace salient
