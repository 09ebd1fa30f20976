#include "core/file/durable_write.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace salient {

absl::Status FileError(int error, const std::string& path, absl::string_view what) {
  // Whoever writes a file meets a limit of its size like a full disk.
  if (error == EFBIG) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": cannot ", what, ": ", std::strerror(error)));
  }
  return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot ", what));
}

absl::Status WriteAt(int fd, const std::string& path, int64_t offset, const void* data,
                     size_t count) {
  const char* bytes = static_cast<const char*>(data);
  while (count > 0) {
    const ssize_t written = pwrite(fd, bytes, count, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(errno, path, "write");
    bytes += written;
    offset += written;
    count -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status CloseAfter(int fd, const std::string& path, absl::Status status) {
  if (close(fd) != 0 && status.ok()) return FileError(errno, path, "close");
  return status;
}

absl::Status MakeRoom(int fd, const std::string& path, int64_t bytes) {
  int result = fallocate(fd, 0, 0, bytes);
  while (result != 0 && errno == EINTR) result = fallocate(fd, 0, 0, bytes);
  if (result == 0) return absl::OkStatus();
  if (errno != EOPNOTSUPP && errno != ENOSYS) return FileError(errno, path, "make room");
  // The file system cannot promise it.
  struct statvfs info;
  if (fstatvfs(fd, &info) != 0) return FileError(errno, path, "make room");
  if (static_cast<uint64_t>(bytes) / info.f_frsize >= info.f_bavail) {
    return FileError(ENOSPC, path, "make room");
  }
  return ftruncate(fd, bytes) == 0 ? absl::OkStatus() : FileError(errno, path, "make room");
}

absl::Status SyncPath(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, path, "open");
  return CloseAfter(fd, path, fsync(fd) == 0 ? absl::OkStatus() : FileError(errno, path, "sync"));
}

absl::Status TakeName(int fd, const std::string& growing, const std::string& path) {
  if (fsync(fd) != 0) return FileError(errno, growing, "sync");
  if (std::rename(growing.c_str(), path.c_str()) != 0) {
    return FileError(errno, growing, absl::StrCat("take the name ", path));
  }
  // The rename itself must survive a power cut.
  return SyncPath(ParentOf(path));
}

absl::Status WriteDurably(const std::string& path, absl::string_view text) {
  const std::string growing = absl::StrCat(path, ".new");
  const int fd = open(growing.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return FileError(errno, growing, "create");
  absl::Status status = WriteAt(fd, growing, 0, text.data(), text.size());
  if (status.ok()) status = TakeName(fd, growing, path);
  if (!status.ok()) unlink(growing.c_str());
  return CloseAfter(fd, growing, std::move(status));
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace salient
