// Tells whether the files of a model directory are still those that a job was accepted for.
#ifndef SALIENT_SERVER_JOBS_MODEL_STAMPS_H_
#define SALIENT_SERVER_JOBS_MODEL_STAMPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace salient {

// Keeps what the file system says of each file that is read or carried into a result. Files are
// read over hours and nobody knows their digests: whoever writes to them meanwhile is found by
// their time, which every write sets, their size, and which file stands under the name.
class ModelStamps {
 public:
  // Looks at the files. Its errors are those of ListModelDirectory.
  static absl::StatusOr<ModelStamps> Of(const std::string& directory);

  // Looks again. Returns FAILED_PRECONDITION, BAD_MODEL, naming the first file that changed, came
  // or went, and how. Its errors are also those of Of.
  absl::Status CheckUnchanged() const;

 private:
  struct Stamp {
    std::string name;
    uint64_t device = 0;
    uint64_t file = 0;  // It is the inode.
    int64_t size_bytes = 0;
    int64_t changed_ns = 0;  // It counts since the epoch.
    bool operator==(const Stamp&) const = default;
  };

  std::string directory_;
  std::vector<Stamp> stamps_;  // They are sorted by name.
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_MODEL_STAMPS_H_
