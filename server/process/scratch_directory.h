// Is a directory of this process, which goes away with it.
#ifndef SALIENT_SERVER_PROCESS_SCRATCH_DIRECTORY_H_
#define SALIENT_SERVER_PROCESS_SCRATCH_DIRECTORY_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace salient {

// Removed, with all that is in it, by the destructor. It is move-only.
class ScratchDirectory {
 public:
  // Makes "salient.scratch-<random>" with mode 0700 below $TMPDIR, else /tmp, and removes what
  // killed processes left there. Its errors are those of MakeGrowingDirectory.
  static absl::StatusOr<ScratchDirectory> Make();

  ScratchDirectory(ScratchDirectory&& other) noexcept
      : path_(std::exchange(other.path_, "")), fd_(std::exchange(other.fd_, -1)) {}
  ScratchDirectory& operator=(ScratchDirectory&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~ScratchDirectory();

  const std::string& path() const { return path_; }

 private:
  ScratchDirectory(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_ = -1;  // It holds the lock.
};

}  // namespace salient

#endif  // SALIENT_SERVER_PROCESS_SCRATCH_DIRECTORY_H_
