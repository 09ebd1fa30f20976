#include "server/scratch_directory.h"

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace salient {

absl::StatusOr<ScratchDirectory> ScratchDirectory::Make() {
  const char* parent = getenv("TMPDIR");
  if (parent == nullptr || *parent == '\0') parent = "/tmp";
  std::string path = absl::StrCat(parent, "/salient-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a directory below ", parent));
  }
  return ScratchDirectory(std::move(path));
}

ScratchDirectory::~ScratchDirectory() {
  if (path_.empty()) return;
  std::error_code ignored;  // nobody is left to hear of it
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace salient
