#include "core/file/growing_name.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/file/durable_write.h"

namespace salient {
namespace {

size_t LongestNameIn(const std::string& directory) {
  const long longest = pathconf(directory.c_str(), _PC_NAME_MAX);
  return longest > 0 ? static_cast<size_t>(longest) : NAME_MAX;
}

constexpr size_t kRandomDigits = 8;

bool IsRandomPart(absl::string_view text) {
  return text.size() == kRandomDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

}  // namespace

std::string GrowingName(const std::string& path, absl::string_view suffix) {
  const size_t slash = path.rfind('/');
  const size_t begin = slash == path.npos ? 0 : slash + 1;
  size_t end = path.size();
  if (const size_t longest = LongestNameIn(ParentOf(path)); end - begin + suffix.size() > longest) {
    end = begin + longest - std::min(longest, suffix.size());
    while (end > begin && (static_cast<unsigned char>(path[end]) & 0xC0) == 0x80) --end;
  }
  return absl::StrCat(path.substr(0, end), suffix);
}

NameLock LockName(int fd, const std::string& path) {
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? NameLock::kTheirs : NameLock::kUnknown;
  }
  struct stat open_one = {};
  struct stat named = {};
  const bool same = fstat(fd, &open_one) == 0 && lstat(path.c_str(), &named) == 0 &&
                    open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
  return same ? NameLock::kOurs : NameLock::kTheirs;
}

absl::StatusOr<GrowingDirectory> MakeGrowingDirectory(const std::string& path,
                                                      absl::string_view suffix, mode_t mode) {
  std::random_device random;
  while (true) {
    std::string growing =
        GrowingName(path, absl::StrCat(suffix, absl::Hex(random(), absl::kZeroPad8)));
    if (mkdir(growing.c_str(), mode) != 0) {
      if (errno == EEXIST) continue;
      return FileError(errno, growing, "create");
    }
    const int fd = open(growing.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
      if (errno == ENOENT) continue;  // Somebody took it for a leftover.
      const int error = errno;
      rmdir(growing.c_str());
      return FileError(error, growing, "open");
    }
    if (LockName(fd, growing) != NameLock::kTheirs) return GrowingDirectory{std::move(growing), fd};
    close(fd);
  }
}

void RemoveLeftoverDirectories(const std::string& path, absl::string_view suffix) {
  const std::string name = GrowingName(path, absl::StrCat(suffix, std::string(kRandomDigits, '0')));
  const std::string stem = std::filesystem::path(name).filename().string();
  const absl::string_view prefix = absl::string_view(stem).substr(0, stem.size() - kRandomDigits);
  std::error_code error;
  std::filesystem::directory_iterator entry(ParentOf(path), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string found = entry->path().filename().string();
    absl::string_view random = found;
    if (!absl::ConsumePrefix(&random, prefix) || !IsRandomPart(random)) continue;
    const std::string leftover = entry->path().string();
    const int fd = open(leftover.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    std::error_code ignored;
    if (LockName(fd, leftover) == NameLock::kOurs) std::filesystem::remove_all(leftover, ignored);
    close(fd);
  }
}

}  // namespace salient
