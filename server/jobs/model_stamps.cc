#include "server/jobs/model_stamps.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint_files.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

absl::Status Changed(const std::string& name, absl::string_view how) {
  return CallError(
      absl::StatusCode::kFailedPrecondition, Reason::kBadModel,
      absl::StrCat(name, ": ", how, "; expected it as it was when the job was accepted"));
}

}  // namespace

absl::StatusOr<ModelStamps> ModelStamps::Of(const std::string& directory) {
  const absl::StatusOr<std::vector<DirectoryFile>> files = ListModelDirectory(directory);
  if (!files.ok()) return files.status();
  ModelStamps stamps;
  stamps.directory_ = directory;
  for (const DirectoryFile& file : *files) {
    if (file.role == FileRole::kLeftBehind) continue;
    const std::string path = absl::StrCat(directory, "/", file.name);
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot say what it is"));
    }
    stamps.stamps_.push_back({file.name, info.st_dev, info.st_ino, info.st_size,
                              info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec});
  }
  return stamps;
}

absl::Status ModelStamps::CheckUnchanged() const {
  const absl::StatusOr<ModelStamps> now = Of(directory_);
  if (!now.ok()) return now.status();
  const auto by_name = [](const Stamp& a, const Stamp& b) { return a.name < b.name; };
  for (const Stamp& before : stamps_) {
    const auto found = std::lower_bound(now->stamps_.begin(), now->stamps_.end(), before, by_name);
    if (found == now->stamps_.end() || found->name != before.name) {
      return Changed(before.name, "is gone");
    }
    if (*found == before) continue;
    if (found->size_bytes != before.size_bytes) {
      return Changed(before.name,
                     absl::StrCat("has ", found->size_bytes, " bytes and had ", before.size_bytes));
    }
    const bool is_another = found->device != before.device || found->file != before.file;
    return Changed(before.name, is_another ? "was replaced" : "was written to");
  }
  for (const Stamp& after : now->stamps_) {
    if (!std::binary_search(stamps_.begin(), stamps_.end(), after, by_name)) {
      return Changed(after.name, "was not there");
    }
  }
  return absl::OkStatus();
}

}  // namespace salient
