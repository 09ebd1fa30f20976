#include "core/file/appearing_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/file/durable_write.h"
#include "core/file/growing_name.h"

namespace salient {
namespace {

constexpr char kSuffix[] = ".incomplete-";

// Makes the directory; `mode` is that of the one it will replace, nullopt if there is none.
absl::StatusOr<GrowingDirectory> MakeTemporary(const std::string& directory,
                                               std::optional<mode_t> mode) {
  auto made = MakeGrowingDirectory(directory, kSuffix, 0777);
  if (!made.ok() || !mode.has_value() || fchmod(made->fd, *mode & 07777) == 0) return made;
  const int error = errno;
  close(made->fd);
  rmdir(made->path.c_str());
  return FileError(error, made->path, "set the mode of");
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

}  // namespace

absl::StatusOr<AppearingDirectory> AppearingDirectory::Create(const std::string& directory) {
  AppearingDirectory result;
  std::string& target = result.directory_;
  target = directory;
  while (target.size() > 1 && target.back() == '/') target.pop_back();
  if (directory.empty()) {
    return absl::InvalidArgumentError("directory is \"\"; expected the name of one to write");
  }
  struct stat info;
  const bool exists = stat(target.c_str(), &info) == 0;
  if (!exists && errno != ENOENT) return FileError(errno, target, "look at");
  if (!exists && lstat(target.c_str(), &info) == 0) {
    return absl::AlreadyExistsError(absl::StrCat(
        target, ": is a link that leads nowhere; expected nothing, or an empty directory"));
  }
  if (exists) {
    std::error_code error;
    if (!S_ISDIR(info.st_mode) || !std::filesystem::is_empty(target, error)) {
      return error ? FileError(error.value(), target, "read") : Taken(target);
    }
    // The directory that a link leads to is replaced, not the link.
    target = std::filesystem::canonical(target, error).string();
    if (error) return FileError(error.value(), directory, "resolve");
  }
  const std::optional<mode_t> mode = exists ? std::make_optional(info.st_mode) : std::nullopt;
  RemoveLeftoverDirectories(target, kSuffix);
  const auto make = [&]() -> absl::Status {
    auto temporary = MakeTemporary(target, mode);
    if (!temporary.ok()) return temporary.status();
    if (result.fd_ >= 0) close(result.fd_);
    result.path_ = std::move(temporary->path);
    result.fd_ = temporary->fd;
    return absl::OkStatus();
  };
  if (absl::Status status = make(); !status.ok()) return status;
  if (exists) {
    // Replacing a mount point fails, for one. Better now than when all the work is done.
    if (absl::Status status = Rename(result.path_, target); !status.ok()) return status;
    result.path_.clear();
    if (absl::Status status = make(); !status.ok()) return status;
  }
  return result;
}

AppearingDirectory::AppearingDirectory(AppearingDirectory&& other) noexcept
    : directory_(std::move(other.directory_)),
      path_(std::exchange(other.path_, "")),
      fd_(std::exchange(other.fd_, -1)) {}

AppearingDirectory& AppearingDirectory::operator=(AppearingDirectory&& other) noexcept {
  std::swap(directory_, other.directory_);
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

AppearingDirectory::~AppearingDirectory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  // It stays locked until it is gone.
  if (fd_ >= 0) close(fd_);
}

absl::Status AppearingDirectory::Commit() {
  if (path_.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(directory_, ": is committed already"));
  }
  if (absl::Status status = SyncPath(path_); !status.ok()) return status;
  if (absl::Status status = Rename(path_, directory_); !status.ok()) return status;
  path_.clear();
  // The rename itself must survive a power cut.
  return SyncPath(ParentOf(directory_));
}

}  // namespace salient
