#include "server/process/scratch_directory.h"

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "core/file/growing_name.h"

namespace salient {
namespace {

constexpr char kSuffix[] = ".scratch-";

}  // namespace

absl::StatusOr<ScratchDirectory> ScratchDirectory::Make() {
  const char* parent = getenv("TMPDIR");
  if (parent == nullptr || *parent == '\0') parent = "/tmp";
  const std::string path = absl::StrCat(parent, "/salient");
  RemoveLeftoverDirectories(path, kSuffix);
  absl::StatusOr<GrowingDirectory> made = MakeGrowingDirectory(path, kSuffix, 0700);
  if (!made.ok()) return made.status();
  return ScratchDirectory(std::move(made->path), made->fd);
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;  // Nobody is left to hear of it.
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  // It stays locked until it is gone.
  if (fd_ >= 0) close(fd_);
}

}  // namespace salient
