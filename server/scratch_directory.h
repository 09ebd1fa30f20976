// A directory of this process, which goes away with it.
#ifndef SALIENT_SERVER_SCRATCH_DIRECTORY_H_
#define SALIENT_SERVER_SCRATCH_DIRECTORY_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace salient {

// Removed, with all that is in it, by the destructor. Move-only.
class ScratchDirectory {
 public:
  // A new one, "salient-XXXXXX" with mode 0700, below $TMPDIR, else /tmp. UNAVAILABLE, NOT_FOUND,
  // PERMISSION_DENIED ... naming the parent.
  static absl::StatusOr<ScratchDirectory> Make();

  ScratchDirectory(ScratchDirectory&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  ScratchDirectory& operator=(ScratchDirectory&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~ScratchDirectory();

  const std::string& path() const { return path_; }

 private:
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_SCRATCH_DIRECTORY_H_
