// Names what is still being written, beside its final name, and tells who is writing it.
#ifndef SALIENT_CORE_FILE_GROWING_NAME_H_
#define SALIENT_CORE_FILE_GROWING_NAME_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace salient {

// Returns `path` with `suffix` behind it. The last part of the path is cut, not inside a UTF-8
// sequence, where the two together are longer than the file system lets a name be.
std::string GrowingName(const std::string& path, absl::string_view suffix);

enum class NameLock {
  kOurs,
  kTheirs,   // Somebody else writes it, or the path leads to something else by now.
  kUnknown,  // The file system has no locks.
};

// Locks what is open as `fd` for as long as it is open, unless somebody else did, and asks whether
// `path` still leads to it. A process that is killed loses its locks, so what it left can be told
// from what is still growing.
NameLock LockName(int fd, const std::string& path);

// The directory is its maker's for as long as `fd` is open.
struct GrowingDirectory {
  std::string path;
  int fd = -1;
};

// Makes a directory of `mode` (less what the process masks) that is called GrowingName(`path`,
// `suffix` and a random number of 8 hexadecimal digits), and locks it. Its errors are those of the
// file system and name the path.
absl::StatusOr<GrowingDirectory> MakeGrowingDirectory(const std::string& path,
                                                      absl::string_view suffix, mode_t mode);

// Removes directories that MakeGrowingDirectory made of the same names and whose makers have ended.
// Files that cannot be removed stay.
void RemoveLeftoverDirectories(const std::string& path, absl::string_view suffix);

}  // namespace salient

#endif  // SALIENT_CORE_FILE_GROWING_NAME_H_
