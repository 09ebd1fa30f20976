#include "core/checkpoint/checkpoint_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/checkpoint/shard_index.h"
#include "core/file/appearing_directory.h"
#include "core/file/byte_coverage.h"
#include "core/file/durable_write.h"
#include "core/file/regular_file.h"
#include "core/parallel/mutex.h"
#include "core/text/quote.h"

namespace salient {
namespace {

constexpr size_t kCopyBytes = size_t{1} << 20;

struct TensorBeingWritten {
  std::string file;
  int64_t begin = 0;  // It counts from the start of the file.
  int64_t end = 0;
  ByteCoverage written;
};

}  // namespace

struct CheckpointWriter::State {
  explicit State(AppearingDirectory appearing)
      : growing(std::move(appearing)), directory(growing.directory()) {}

  AppearingDirectory growing;
  const std::string directory;

  Mutex mutex;
  std::vector<std::string> files ABSL_GUARDED_BY(mutex);
  std::set<std::string> subdirectories ABSL_GUARDED_BY(mutex);
  std::map<std::string, TensorBeingWritten, std::less<>> tensors ABSL_GUARDED_BY(mutex);
  // A write failed so; what it left is unknown, and nothing can be committed.
  absl::Status failure ABSL_GUARDED_BY(mutex);

  std::string PathOf(absl::string_view name) const {
    return absl::StrCat(growing.path(), "/", name);
  }

  // Returns a new file of this name, open for writing.
  absl::StatusOr<int> CreateFile(absl::string_view name) {
    if (!IsModelFileName(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(directory, ": file name is ", QuoteForMessage(name),
                       "; expected a name in the same directory, without separators and leading "
                       "dot, of at most ",
                       kMaxFileNameBytes, " bytes"));
    }
    if (const size_t slash = name.find('/'); slash != name.npos) {
      absl::Status status = MakeSubdirectory(std::string(name.substr(0, slash)));
      if (!status.ok()) return status;
    }
    const std::string path = PathOf(name);
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return FileError(errno, path, "create");
    const MutexLock lock(mutex);
    files.emplace_back(name);
    return fd;
  }

  absl::Status MakeSubdirectory(const std::string& name) {
    const MutexLock lock(mutex);
    if (!subdirectories.insert(name).second) return absl::OkStatus();
    const std::string path = PathOf(name);
    return mkdir(path.c_str(), 0777) == 0 ? absl::OkStatus() : FileError(errno, path, "create");
  }

  // Takes the names of its tensors at once, so that two files that come together share none.
  absl::Status Claim(absl::string_view file, const SafetensorsLayout& layout) {
    const MutexLock lock(mutex);
    for (const SafetensorsLayout::Place& place : layout.places) {
      const auto other = tensors.find(place.tensor.name);
      if (other == tensors.end()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(directory, "/", file, ": tensor ", QuoteForMessage(other->first),
                       " is also in ", other->second.file, "; expected it in one file only"));
    }
    for (const SafetensorsLayout::Place& place : layout.places) {
      tensors[place.tensor.name] = {std::string(file), place.begin, place.end, {}};
    }
    return absl::OkStatus();
  }

  // Frees the names of a file that cannot be.
  void GiveUp(const SafetensorsLayout& layout) {
    const MutexLock lock(mutex);
    for (const SafetensorsLayout::Place& place : layout.places) tensors.erase(place.tensor.name);
  }

  absl::Status Keep(absl::Status status) {
    if (status.ok()) return status;
    const MutexLock lock(mutex);
    failure.Update(status);
    return status;
  }
};

CheckpointWriter::CheckpointWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
CheckpointWriter::CheckpointWriter(CheckpointWriter&&) noexcept = default;
CheckpointWriter& CheckpointWriter::operator=(CheckpointWriter&&) noexcept = default;
CheckpointWriter::~CheckpointWriter() = default;

absl::StatusOr<CheckpointWriter> CheckpointWriter::Create(const std::string& directory) {
  auto growing = AppearingDirectory::Create(directory);
  if (!growing.ok()) return growing.status();
  return CheckpointWriter(std::make_unique<State>(*std::move(growing)));
}

absl::Status CheckpointWriter::WriteFile(absl::string_view name, absl::string_view content) {
  const auto fd = state_->CreateFile(name);
  if (!fd.ok()) return fd.status();
  const std::string path = state_->PathOf(name);
  return state_->Keep(CloseAfter(*fd, path, WriteAt(*fd, path, 0, content.data(), content.size())));
}

absl::Status CheckpointWriter::CopyFile(absl::string_view name, const std::string& source,
                                        absl::FunctionRef<absl::Status()> check) {
  const absl::StatusOr<RegularFile> from = RegularFile::Open(source);
  if (!from.ok()) return from.status();
  const auto to = state_->CreateFile(name);
  if (!to.ok()) return to.status();
  const std::string path = state_->PathOf(name);
  std::vector<char> range(kCopyBytes);
  absl::Status status;
  for (int64_t offset = 0; status.ok();) {
    if (status = check(); !status.ok()) break;
    const ssize_t got = read(from->fd(), range.data(), range.size());
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
  if (absl::Status status = state_->Claim(name, layout); !status.ok()) return status;
  const auto fd = state_->CreateFile(name);
  if (!fd.ok()) {
    state_->GiveUp(layout);
    return fd.status();
  }
  const std::string path = state_->PathOf(name);
  absl::Status status = MakeRoom(*fd, path, layout.file_bytes);
  if (status.ok()) status = WriteAt(*fd, path, 0, layout.head.data(), layout.head.size());
  return state_->Keep(CloseAfter(*fd, path, std::move(status)));
}

absl::Status CheckpointWriter::WriteTensor(absl::string_view tensor, int64_t offset,
                                           absl::Span<const std::byte> bytes) {
  std::string path;
  int64_t position = 0;
  {
    const MutexLock lock(state_->mutex);
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
  const MutexLock lock(state_->mutex);
  if (!state_->failure.ok()) return state_->failure;
  if (state_->growing.path().empty()) {
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
  for (const std::string& name : state_->subdirectories) {
    if (absl::Status status = SyncPath(state_->PathOf(name)); !status.ok()) return status;
  }
  return state_->growing.Commit();
}

}  // namespace salient
