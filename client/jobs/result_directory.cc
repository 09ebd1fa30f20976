#include "client/jobs/result_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/file/durable_write.h"
#include "core/text/quote.h"
#include "core/text/utf8.h"

namespace salient::client {
namespace {

namespace fs = std::filesystem;

// The longest name is FORMAT/SUBDIRECTORY/NAME, of a model in several formats.
constexpr size_t kMostParts = 3;

}  // namespace

std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  // weakly_canonical gives a relative path whose first part is not there back as it is.
  const fs::path whole = fs::absolute(path, error).lexically_normal();
  fs::path absolute = fs::weakly_canonical(whole, error);
  if (error) absolute = whole;
  // "out/" is "out".
  if (!absolute.has_filename() && absolute.has_relative_path()) absolute = absolute.parent_path();
  return absolute.string();
}

absl::Status CheckPathIsText(const std::string& path) {
  const std::string absolute = AbsolutePath(path);
  if (IsUtf8(absolute)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "path ", QuoteForMessage(absolute),
      " is not UTF-8, as paths that a server is told of must be; expected another name"));
}

absl::Status CheckOutputDirectory(const std::string& path) {
  if (path.empty()) {
    return absl::InvalidArgumentError("the output directory is \"\"; expected the name of one");
  }
  if (absl::Status text = CheckPathIsText(path); !text.ok()) return text;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::none) {
    return FileError(error.value(), path, "look at it");
  }
  if (fs::exists(status)) {
    if (!fs::is_directory(status)) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": is there and is no directory; expected a new directory"));
    }
    const bool empty = fs::is_empty(path, error);
    if (error) return FileError(error.value(), path, "read");
    if (!empty) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": is there and is not empty; expected a new or an empty directory"));
    }
    return absl::OkStatus();
  }
  if (fs::is_symlink(fs::symlink_status(path, error))) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, ": is a link that leads nowhere; expected a new or an empty directory"));
  }
  if (!fs::is_directory(ParentOf(path), error)) {
    return absl::NotFoundError(absl::StrCat(path, ": its parent is no directory"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ResultDirectory> ResultDirectory::Create(const std::string& path) {
  auto growing = AppearingDirectory::Create(AbsolutePath(path));
  if (!growing.ok()) return growing.status();
  return ResultDirectory(*std::move(growing));
}

ResultDirectory::ResultDirectory(ResultDirectory&& other) noexcept
    : growing_(std::move(other.growing_)),
      subdirectories_(std::move(other.subdirectories_)),
      name_(std::move(other.name_)),
      fd_(std::exchange(other.fd_, -1)) {}

ResultDirectory::~ResultDirectory() {
  if (fd_ >= 0) close(fd_);
}

absl::Status ResultDirectory::BeginFile(absl::string_view name) {
  if (auto closed = CloseFile(); !closed.ok()) return closed;
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  if (parts.size() > kMostParts || !absl::c_all_of(parts, IsPlainFileName)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a result file is called ", QuoteForMessage(name), "; expected a name inside ",
                     growing_.directory()));
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    const auto inside = absl::MakeConstSpan(parts).first(i);
    if (auto made = MakeSubdirectory(absl::StrJoin(inside, "/")); !made.ok()) return made;
  }
  name_ = absl::StrCat(growing_.path(), "/", name);
  fd_ = open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ >= 0) return absl::OkStatus();
  if (errno == EEXIST) {
    return absl::InvalidArgumentError(
        absl::StrCat("result file ", QuoteForMessage(name), " came twice; expected once"));
  }
  return FileError(errno, name_, "write");
}

absl::Status ResultDirectory::MakeSubdirectory(const std::string& name) {
  if (subdirectories_.contains(name)) return absl::OkStatus();
  const std::string path = absl::StrCat(growing_.path(), "/", name);
  if (mkdir(path.c_str(), 0777) != 0) {
    if (errno == EEXIST) {
      return absl::InvalidArgumentError(absl::StrCat(
          "result file ", QuoteForMessage(name), " is a directory, too; expected one of the two"));
    }
    return FileError(errno, path, "create");
  }
  subdirectories_.insert(name);
  return absl::OkStatus();
}

absl::Status ResultDirectory::Append(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = write(fd_, bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return FileError(errno, name_, "write");
    bytes.remove_prefix(static_cast<size_t>(size));
  }
  return absl::OkStatus();
}

absl::Status ResultDirectory::CloseFile() {
  if (fd_ < 0) return absl::OkStatus();
  const int synced = fsync(fd_);
  const int error = errno;
  close(std::exchange(fd_, -1));
  return synced == 0 ? absl::OkStatus() : FileError(error, name_, "sync");
}

absl::Status ResultDirectory::Commit() {
  if (auto closed = CloseFile(); !closed.ok()) return closed;
  for (const std::string& name : subdirectories_) {
    const std::string path = absl::StrCat(growing_.path(), "/", name);
    if (auto synced = SyncPath(path); !synced.ok()) return synced;
  }
  return growing_.Commit();
}

}  // namespace salient::client
