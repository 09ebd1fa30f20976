// Fills a directory that is complete in the end, or absent.
#ifndef SALIENT_CORE_FILE_APPEARING_DIRECTORY_H_
#define SALIENT_CORE_FILE_APPEARING_DIRECTORY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace salient {

// This is "<directory>.incomplete-<random>", beside it, which goes away with the object, with all
// that is in it, unless it was committed. What a killed process left of it goes when another one is
// made of the same `directory`; one that is still being filled is locked, and stays. It is
// move-only.
class AppearingDirectory {
 public:
  // Makes the directory. An existing empty one is replaced. Returns ALREADY_EXISTS if `directory`
  // is there and not empty, or a link that leads nowhere; NOT_FOUND if its parent is not there;
  // INVALID_ARGUMENT for an empty name; other errors of the file system, naming the path.
  static absl::StatusOr<AppearingDirectory> Create(const std::string& directory);
  AppearingDirectory(AppearingDirectory&& other) noexcept;
  AppearingDirectory& operator=(AppearingDirectory&& other) noexcept;
  ~AppearingDirectory();

  // Returns the name that it will have.
  const std::string& directory() const { return directory_; }
  // Returns the name that it has now; it is empty after Commit.
  const std::string& path() const { return path_; }

  // Syncs its names and takes the final one; the files in it are synced already. Returns
  // ALREADY_EXISTS if something else has taken the name meanwhile.
  absl::Status Commit();

 private:
  AppearingDirectory() = default;
  std::string directory_;
  std::string path_;
  int fd_ = -1;  // It holds the lock.
};

}  // namespace salient

#endif  // SALIENT_CORE_FILE_APPEARING_DIRECTORY_H_
