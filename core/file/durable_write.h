// Writes files that must be there after a power cut. Errors are those of the file system and name
// the path.
#ifndef SALIENT_CORE_FILE_DURABLE_WRITE_H_
#define SALIENT_CORE_FILE_DURABLE_WRITE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace salient {

// Returns the status of `error` (errno): "<path>: cannot <what>: ...". Returns RESOURCE_EXHAUSTED
// if the system has no more of something: room, inodes, open files, bytes that a file may have.
absl::Status FileError(int error, const std::string& path, absl::string_view what);

// Writes all `count` bytes at `offset`, however often the system has to be asked. Returns what
// FileError makes of a failure, as the three below do.
absl::Status WriteAt(int fd, const std::string& path, int64_t offset, const void* data,
                     size_t count);

// Closes `fd` and returns `status`, or what closing tells: it can be of a write that failed.
absl::Status CloseAfter(int fd, const std::string& path, absl::Status status);

// Takes room for `bytes` at once: a full disk is told before the work, not after it.
absl::Status MakeRoom(int fd, const std::string& path, int64_t bytes);

// Syncs a file, or a directory, which makes the names in it last.
absl::Status SyncPath(const std::string& path);

// Gives the file `fd`, which was written as `growing`, the name `path`: after a power cut what
// `path` names is whole, be it the old file or this one. Does not close `fd`.
absl::Status TakeName(int fd, const std::string& growing, const std::string& path);

// Writes a file of `text`, by a file `path`.new that takes its name. Leaves nothing of it behind if
// that fails.
absl::Status WriteDurably(const std::string& path, absl::string_view text);

// Returns "dir" of "dir/file", and "." of "file".
std::string ParentOf(const std::string& path);

}  // namespace salient

#endif  // SALIENT_CORE_FILE_DURABLE_WRITE_H_
