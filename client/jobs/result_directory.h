// Keeps the output of a command, while it grows and when it is whole.
#ifndef SALIENT_CLIENT_JOBS_RESULT_DIRECTORY_H_
#define SALIENT_CLIENT_JOBS_RESULT_DIRECTORY_H_

#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/file/appearing_directory.h"

namespace salient::client {

// Returns `path` as an absolute one, without what could lead elsewhere.
std::string AbsolutePath(const std::string& path);

// Returns INVALID_ARGUMENT if the absolute path is not UTF-8: no server can be told of it.
absl::Status CheckPathIsText(const std::string& path);

// Returns OK if nothing is at `path`, or an empty directory, and its parent is there. Returns
// ALREADY_EXISTS, also for a link that leads nowhere; NOT_FOUND; both name the path.
absl::Status CheckOutputDirectory(const std::string& path);

// Is a directory of files that appears complete or not at all. It is move-only, not thread-safe.
class ResultDirectory {
 public:
  // Makes the directory. Its errors are those of AppearingDirectory::Create.
  static absl::StatusOr<ResultDirectory> Create(const std::string& path);
  ResultDirectory(ResultDirectory&& other) noexcept;
  ResultDirectory& operator=(ResultDirectory&&) = delete;
  ~ResultDirectory();

  // Opens the next file, "NAME", "SUBDIRECTORY/NAME" or one level deeper, and closes the one
  // before. Returns INVALID_ARGUMENT for a name that leads elsewhere or was there before.
  absl::Status BeginFile(absl::string_view name);
  // Appends the next bytes of the file opened last.
  absl::Status Append(absl::string_view bytes);

  // Syncs everything and takes the name. To be called once.
  absl::Status Commit();

 private:
  explicit ResultDirectory(AppearingDirectory growing) : growing_(std::move(growing)) {}
  absl::Status CloseFile();
  absl::Status MakeSubdirectory(const std::string& name);

  AppearingDirectory growing_;
  std::set<std::string> subdirectories_;
  std::string name_;  // It is that of the open file.
  int fd_ = -1;
};

}  // namespace salient::client

#endif  // SALIENT_CLIENT_JOBS_RESULT_DIRECTORY_H_
