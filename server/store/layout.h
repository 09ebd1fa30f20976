// Says where blobs lie below the store's directory:
//
//   uploads/<sha256>-<size>.part             an upload that is not whole yet
//   uploads/<sha256>-<size>.<number>.part    another of the same blob, from 1
//   blobs/sha256/<2 digits>/<sha256>-<size>  a blob, verified before it got here
//   quarantine/<sha256>-<size>               once a blob, found damaged
//
// Names are made of digests only; nothing a client says becomes a path.
#ifndef SALIENT_SERVER_STORE_LAYOUT_H_
#define SALIENT_SERVER_STORE_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/digest.h"
#include "server/store/file.h"

namespace salient {

// Writes "<sha256>-<size>", and reads it back; nullopt for any other text, also for a size written
// otherwise.
std::string BlobName(const Digest& digest);
std::optional<Digest> ParseBlobName(absl::string_view name);

// Says what was found when the directory was opened, beside what belongs there.
struct RecoveryReport {
  int64_t blobs = 0;
  int64_t uploads = 0;
  int64_t quarantined = 0;  // They did not have their size.
  int64_t foreign = 0;      // Their names are not ours; they are left alone.
  // Each remark is a line on one of the first kMaxRemarks of the last two, or on a disk that is too
  // small.
  std::vector<std::string> remarks;

  static constexpr size_t kMaxRemarks = 20;
};

// Knows the directories. All calls block. It is thread-safe.
class Layout {
 public:
  struct Partial {
    Digest digest;
    int number = 0;  // Several uploads of one blob have files of their own.
    int64_t written_bytes = 0;
  };
  struct Contents {
    std::vector<Digest> blobs;
    std::vector<Partial> partials;
    RecoveryReport report;
  };

  // Makes what is missing, with mode 0700. Returns FAILED_PRECONDITION if another store has
  // `directory` open; errors of file.h.
  static absl::StatusOr<Layout> Open(const std::string& directory);

  // Returns what is there. Finishes what a crash interrupted: a blob that stands under both names
  // keeps the verified one, a blob without its size goes into quarantine, of several uploads of one
  // blob the longest stays.
  absl::StatusOr<Contents> Scan() const;

  // Opens a partial file, which is made if it is missing.
  absl::StatusOr<File> OpenPartial(const Digest& digest, int number) const;
  absl::StatusOr<File> OpenPartialForReading(const Digest& digest, int number) const;
  absl::StatusOr<FileInfo> PartialInfo(const Digest& digest, int number) const;
  absl::Status RemovePartial(const Digest& digest, int number) const;
  // Makes the upload the blob, durably after SyncCommits.
  absl::Status Commit(const Digest& digest, int number) const;
  absl::Status SyncCommits(absl::Span<const Digest> digests) const;

  absl::StatusOr<Directory::Room> FindRoom() const { return root_.FindRoom(); }

  absl::StatusOr<File> OpenBlob(const Digest& digest) const;
  absl::Status RemoveBlob(const Digest& digest) const;
  absl::Status Quarantine(const Digest& digest) const;

 private:
  Layout(Directory root, Directory uploads, Directory blobs, Directory quarantine)
      : root_(std::move(root)),
        uploads_(std::move(uploads)),
        blobs_(std::move(blobs)),
        quarantine_(std::move(quarantine)) {}
  // Opens a shard when it is needed: 256 descriptors are too many to keep.
  absl::StatusOr<Directory> Shard(const Digest& digest) const;
  absl::Status ScanShard(const std::string& shard_name, Contents& contents) const;
  absl::Status ScanUploads(Contents& contents) const;
  absl::Status KeepLongest(Contents& contents, const Partial& partial) const;

  Directory root_;
  Directory uploads_;
  Directory blobs_;  // It is "blobs/sha256".
  Directory quarantine_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_STORE_LAYOUT_H_
