#include "server/store/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

constexpr mode_t kDirectoryMode = 0700;
constexpr mode_t kFileMode = 0600;

absl::Status Errno(int error, absl::string_view name, absl::string_view what) {
  const std::string message = absl::StrCat(name, ": ", what);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return absl::ResourceExhaustedError(absl::ErrnoToStatus(error, message).message());
  }
  if (error == ELOOP) {
    return absl::FailedPreconditionError(absl::StrCat(message, ": is a symbolic link"));
  }
  return absl::ErrnoToStatus(error, message);
}

// Repeats a system call while signals interrupt it.
template <typename Call>
auto Retry(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), name_(std::move(other.name_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(name_, other.name_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<int64_t> File::SizeBytes() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return Errno(errno, name_, "cannot say its size");
  return int64_t{info.st_size};
}

absl::Status File::ReadAt(int64_t offset, absl::Span<char> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = Retry([&] { return pread(fd_, bytes.data(), bytes.size(), offset); });
    if (got < 0) return Errno(errno, name_, "cannot read");
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(name_, ": ends at byte ", offset, "; expected ",
                                              bytes.size(), " more bytes"));
    }
    offset += got;
    bytes.remove_prefix(static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

absl::Status File::WriteAt(int64_t offset, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t put = Retry([&] { return pwrite(fd_, data.data(), data.size(), offset); });
    if (put < 0) return Errno(errno, name_, "cannot write");
    offset += put;
    data.remove_prefix(static_cast<size_t>(put));
  }
  return absl::OkStatus();
}

absl::Status File::Reserve(int64_t offset, int64_t size) {
  if (size <= 0) return absl::OkStatus();
  // Not posix_fallocate: it changes the size, which says how much was written, and writes zeros
  // where the file system does not know how.
  if (Retry([&] { return fallocate(fd_, FALLOC_FL_KEEP_SIZE, offset, size); }) == 0) {
    return absl::OkStatus();
  }
  if (errno != EOPNOTSUPP && errno != ENOSYS) {
    return Errno(errno, name_, absl::StrCat("cannot reserve ", size, " bytes"));
  }
  struct statvfs info;
  if (fstatvfs(fd_, &info) != 0) return Errno(errno, name_, "cannot say what is free");
  const auto needed_blocks = static_cast<fsblkcnt_t>(size) / info.f_frsize + 1;
  if (needed_blocks > info.f_bavail) {
    return absl::ResourceExhaustedError(absl::StrCat(name_, ": cannot reserve ", size,
                                                     " bytes: the file system has ",
                                                     info.f_bavail * info.f_frsize, " free"));
  }
  return absl::OkStatus();
}

absl::Status File::Truncate(int64_t size_bytes) {
  if (Retry([&] { return ftruncate(fd_, size_bytes); }) != 0) {
    return Errno(errno, name_, absl::StrCat("cannot truncate to ", size_bytes, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status File::Touch() {
  if (futimens(fd_, nullptr) != 0) return Errno(errno, name_, "cannot set its time");
  return absl::OkStatus();
}

void File::BeginSync(int64_t offset, int64_t size) const {
  // The Sync that follows tells what goes wrong.
  (void)sync_file_range(fd_, offset, size, SYNC_FILE_RANGE_WRITE);
}

absl::Status File::Sync() const {
  if (Retry([&] { return fsync(fd_); }) != 0) return Errno(errno, name_, "cannot sync");
  return absl::OkStatus();
}

absl::StatusOr<Directory> Directory::OpenRoot(const std::string& path) {
  if (mkdir(path.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
    return Errno(errno, path, "cannot make the directory");
  }
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Errno(errno, path, "cannot open the directory");
  return Directory(File(fd, path), /*is_root=*/true);
}

std::string Directory::PathOf(const std::string& name) const {
  return is_root_ ? name : absl::StrCat(path(), "/", name);
}

absl::StatusOr<Directory> Directory::Subdirectory(const std::string& name) const {
  if (mkdirat(file_.fd(), name.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
    return Errno(errno, PathOf(name), "cannot make the directory");
  }
  const int fd = openat(file_.fd(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return Errno(errno, PathOf(name), "cannot open the directory");
  return Directory(File(fd, PathOf(name)), /*is_root=*/false);
}

absl::Status Directory::Lock() {
  if (Retry([&] { return flock(file_.fd(), LOCK_EX | LOCK_NB); }) == 0) return absl::OkStatus();
  if (errno == EWOULDBLOCK) {
    return absl::FailedPreconditionError(absl::StrCat(path(), ": in use by another server"));
  }
  return Errno(errno, path(), "cannot lock");
}

absl::StatusOr<File> Directory::OpenFile(const std::string& name, int flags) const {
  // O_NONBLOCK: opening a FIFO must not wait for its other end. Regular files ignore it.
  const int fd =
      openat(file_.fd(), name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, kFileMode);
  if (fd < 0) return Errno(errno, PathOf(name), "cannot open");
  File file(fd, PathOf(name));
  struct stat info;
  if (fstat(fd, &info) != 0) return Errno(errno, file.name(), "cannot say what it is");
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(file.name(), ": is not a regular file; expected one"));
  }
  return file;
}

absl::StatusOr<File> Directory::OpenForReading(const std::string& name) const {
  return OpenFile(name, O_RDONLY);
}

absl::StatusOr<File> Directory::OpenForWriting(const std::string& name) const {
  return OpenFile(name, O_RDWR | O_CREAT);
}

absl::StatusOr<FileInfo> Directory::Info(const std::string& name) const {
  struct stat info;
  if (fstatat(file_.fd(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return Errno(errno, PathOf(name), "cannot say what it is");
  }
  return FileInfo{S_ISREG(info.st_mode), int64_t{info.st_size},
                  absl::TimeFromTimespec(info.st_mtim)};
}

absl::StatusOr<std::vector<std::string>> Directory::Names() const {
  // A descriptor of its own: closedir closes it.
  const int fd = openat(file_.fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Errno(errno, path(), "cannot list");
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd), closedir);
  if (stream == nullptr) {
    const int error = errno;
    close(fd);
    return Errno(error, path(), "cannot list");
  }
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream.get())) {
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return Errno(errno, path(), "cannot list");
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status Directory::Remove(const std::string& name) const {
  if (unlinkat(file_.fd(), name.c_str(), 0) != 0) {
    return Errno(errno, PathOf(name), "cannot remove");
  }
  return absl::OkStatus();
}

absl::StatusOr<Directory::Room> Directory::FindRoom() const {
  struct statvfs info;
  if (fstatvfs(file_.fd(), &info) != 0) return Errno(errno, path(), "cannot say what is free");
  const auto bytes = [&info](fsblkcnt_t blocks) {
    return static_cast<int64_t>(std::min<uint64_t>(blocks, INT64_MAX / info.f_frsize) *
                                info.f_frsize);
  };
  // Blocks reserved for root are not free for this process.
  return Room{bytes(info.f_blocks - (info.f_bfree - info.f_bavail)), bytes(info.f_bavail)};
}

absl::Status Directory::MoveTo(const Directory& target, const std::string& name,
                               const std::string& new_name) const {
  if (renameat(file_.fd(), name.c_str(), target.file_.fd(), new_name.c_str()) != 0) {
    return Errno(errno, PathOf(name), absl::StrCat("cannot move to ", target.PathOf(new_name)));
  }
  return absl::OkStatus();
}

absl::Status Directory::Sync() const { return file_.Sync(); }

}  // namespace salient
