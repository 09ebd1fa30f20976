#include "core/checkpoint/growing_name.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/checkpoint/durable_write.h"

namespace salient {
namespace {

size_t LongestNameIn(const std::string& directory) {
  const long longest = pathconf(directory.c_str(), _PC_NAME_MAX);
  return longest > 0 ? static_cast<size_t>(longest) : NAME_MAX;
}

bool IsRandomPart(absl::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
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

void RemoveLeftoverDirectories(const std::string& path, absl::string_view suffix, size_t digits) {
  const std::string longest = GrowingName(path, absl::StrCat(suffix, std::string(digits, '0')));
  const std::string stem = std::filesystem::path(longest).filename().string();
  const absl::string_view prefix = absl::string_view(stem).substr(0, stem.size() - digits);
  std::error_code error;
  std::filesystem::directory_iterator entry(ParentOf(path), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    absl::string_view random = name;
    if (!absl::ConsumePrefix(&random, prefix) || !IsRandomPart(random, digits)) continue;
    const std::string leftover = entry->path().string();
    const int fd = open(leftover.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    std::error_code ignored;
    if (LockName(fd, leftover) == NameLock::kOurs) std::filesystem::remove_all(leftover, ignored);
    close(fd);
  }
}

}  // namespace salient
