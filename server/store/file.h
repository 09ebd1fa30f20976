// Files and directories by descriptor: every path is one name inside an open directory, symbolic
// links are never followed.
#ifndef SALIENT_SERVER_STORE_FILE_H_
#define SALIENT_SERVER_STORE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace salient {

// The errors of this file are NOT_FOUND, RESOURCE_EXHAUSTED (no space, quota or file size limit),
// PERMISSION_DENIED, else as absl::ErrnoToStatus; each names the file, as it stands below the root
// that was opened: clients hear of it, and where the root is, is none of their business. All calls
// block.

// Owns a descriptor. It is move-only. Reading is thread-safe.
class File {
 public:
  File() = default;
  File(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  const std::string& name() const { return name_; }  // Messages name it.

  absl::StatusOr<int64_t> SizeBytes() const;

  // Fills `bytes` from `offset`. Returns DATA_LOSS if the file ends before.
  absl::Status ReadAt(int64_t offset, absl::Span<char> bytes) const;

  // Writes all of `data`, or fails with an unknown part of it written.
  absl::Status WriteAt(int64_t offset, absl::string_view data);

  // Sets aside disk space for [offset, offset + size) without changing the file's size. Where
  // the file system cannot, only checks that so much is free.
  absl::Status Reserve(int64_t offset, int64_t size);

  absl::Status Truncate(int64_t size_bytes);
  // Says that the file was changed now.
  absl::Status Touch();
  // Makes sure that what was written survives a crash.
  absl::Status Sync() const;
  // Has the kernel begin to write these bytes to the disk, so that a Sync has less to wait for.
  void BeginSync(int64_t offset, int64_t size) const;

 private:
  int fd_ = -1;
  std::string name_;
};

// Says what stands under a name.
struct FileInfo {
  bool is_regular_file = false;
  int64_t size_bytes = 0;
  absl::Time changed_at;
};

// Is an open directory.
class Directory {
 public:
  // Opens `path`, made with mode 0700 if it is not there (its parent must be). Here alone links
  // are followed: the operator may place one.
  static absl::StatusOr<Directory> OpenRoot(const std::string& path);

  // Opens the directory `name` inside, made with mode 0700 if it is not there.
  absl::StatusOr<Directory> Subdirectory(const std::string& name) const;

  // Returns FAILED_PRECONDITION if another holder, in this process or another, has the lock. Held
  // until the directory is closed.
  absl::Status Lock();

  absl::StatusOr<File> OpenForReading(const std::string& name) const;
  // Opens a file, which is made with mode 0600 if it is missing.
  absl::StatusOr<File> OpenForWriting(const std::string& name) const;

  absl::StatusOr<FileInfo> Info(const std::string& name) const;
  // Returns the names, sorted.
  absl::StatusOr<std::vector<std::string>> Names() const;
  absl::Status Remove(const std::string& name) const;
  // Says how large its file system is, as far as others than root may have it.
  struct Room {
    int64_t total_bytes = 0;
    int64_t free_bytes = 0;
  };
  absl::StatusOr<Room> FindRoom() const;
  // Moves it atomically and replaces what stands there.
  absl::Status MoveTo(const Directory& target, const std::string& name,
                      const std::string& new_name) const;
  // Names made, moved and removed survive a crash.
  absl::Status Sync() const;

  const std::string& path() const { return file_.name(); }  // Messages name it.

 private:
  Directory(File file, bool is_root) : file_(std::move(file)), is_root_(is_root) {}
  std::string PathOf(const std::string& name) const;
  absl::StatusOr<File> OpenFile(const std::string& name, int flags) const;
  File file_;
  bool is_root_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_FILE_H_
