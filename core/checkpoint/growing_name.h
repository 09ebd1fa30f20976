// Names of what is still being written, beside its final name, and who is writing it.
#ifndef SALIENT_CORE_CHECKPOINT_GROWING_NAME_H_
#define SALIENT_CORE_CHECKPOINT_GROWING_NAME_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace salient {

// Returns `path` with `suffix` behind it. The last part of the path is cut, not inside a UTF-8
// sequence, where the two together are longer than the file system lets a name be.
std::string GrowingName(const std::string& path, absl::string_view suffix);

enum class NameLock {
  kOurs,
  kTheirs,   // somebody else writes it, or the path leads to something else by now
  kUnknown,  // the file system has no locks
};

// Locks what is open as `fd` for as long as it is open, unless somebody else did, and asks whether
// `path` still leads to it. A process that is killed loses its locks, so what it left can be told
// from what is still growing.
NameLock LockName(int fd, const std::string& path);

// Removes directories that were called GrowingName(`path`, `suffix`) and `digits` hexadecimal
// digits and that nobody is writing any more. What cannot be removed stays.
void RemoveLeftoverDirectories(const std::string& path, absl::string_view suffix, size_t digits);

}  // namespace salient

#endif  // SALIENT_CORE_CHECKPOINT_GROWING_NAME_H_
