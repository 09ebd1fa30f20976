// Paths that clients name, below a directory that the operator allowed.
#ifndef SALIENT_SERVER_JOBS_ROOT_PATH_H_
#define SALIENT_SERVER_JOBS_ROOT_PATH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace salient {

// Returns the absolute path, without links, of an existing directory below `root`. `path` is
// relative to `root`, or absolute and below it. `flag` is how the operator sets the root.
//
// Errors: INVALID_ARGUMENT, BAD_PATH, if there is no root, the path leads out of it (by ".." or by
// links), or no directory is there.
absl::StatusOr<std::string> ResolveModelPath(absl::string_view flag, const std::string& root,
                                             const std::string& path);

// Resolves the same for a directory to be made, whose parent must exist. What stands there
// already is the writer's business, unless it is a link.
absl::StatusOr<std::string> ResolveOutputPath(absl::string_view flag, const std::string& root,
                                              const std::string& path);

// Names what lies below one of `roots` by its path from there, in the message of `status`: where
// the operator keeps a root is none of a client's business.
absl::Status WithoutRoots(const absl::Status& status, absl::Span<const std::string> roots);

// Returns whether what stands at `path`, followed through links, lies below `root`.
bool IsBelowRoot(const std::string& root, const std::string& path);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_ROOT_PATH_H_
