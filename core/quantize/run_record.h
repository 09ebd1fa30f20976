// Keeps what a run that goes on where another stopped must know of the blocks that are out.
#ifndef SALIENT_CORE_QUANTIZE_RUN_RECORD_H_
#define SALIENT_CORE_QUANTIZE_RUN_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/activation_range.h"
#include "core/result/raised_group.h"

namespace salient {

struct RunRecord {
  std::vector<RaisedGroup> raised;
  ActivationRange range;
};

// Writes a file in the directory of a run's hidden states, whole and before states are committed,
// so that it tells of every block before them at least. Its errors are those of the file system and
// name the path.
absl::Status SaveRecord(const std::string& directory, const RunRecord& record);
// Returns what it tells, of raised groups those of blocks before `layer`; nothing if there is no
// file. Returns INVALID_ARGUMENT for a file that SaveRecord did not write.
absl::StatusOr<RunRecord> LoadRecord(const std::string& directory, int64_t layer);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZE_RUN_RECORD_H_
