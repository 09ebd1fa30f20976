// A regular file that is open for reading.
#ifndef SALIENT_CORE_FILE_REGULAR_FILE_H_
#define SALIENT_CORE_FILE_REGULAR_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace salient {

// Owns the descriptor and closes it. Move-only; a moved-from one may only be destroyed or assigned
// to.
class RegularFile {
 public:
  // Opens `path`, never waiting for anybody. INVALID_ARGUMENT if it is a directory, a pipe, a
  // device or a socket; otherwise the error of the file system, such as NOT_FOUND. All name the
  // path.
  static absl::StatusOr<RegularFile> Open(const std::string& path);

  RegularFile(RegularFile&& other) noexcept;
  RegularFile& operator=(RegularFile&& other) noexcept;
  ~RegularFile();

  int fd() const { return fd_; }
  // Returns the size that it had when it was opened.
  int64_t bytes() const { return bytes_; }

 private:
  explicit RegularFile(int fd) : fd_(fd) {}

  int fd_;
  int64_t bytes_ = 0;
};

}  // namespace salient

#endif  // SALIENT_CORE_FILE_REGULAR_FILE_H_
