// Says what the directories of a job's results are called.
#ifndef SALIENT_SERVER_JOBS_OUTPUT_DIRECTORIES_H_
#define SALIENT_SERVER_JOBS_OUTPUT_DIRECTORIES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/pack/stored_format.h"
#include "core/tensor/stored_format.h"

namespace salient {

inline constexpr size_t kMaxOutputs = 8;

// Returns the directories in the order of `formats`. One result has none: "". Of several, each has
// its layout's name, "awq-gemm", and if another has it, too, its width and group size:
// "compressed-tensors-8bit-g128". Returns INVALID_ARGUMENT, BAD_JOB, for no format, more than
// kMaxOutputs, or two that would share a name.
absl::StatusOr<std::vector<std::string>> OutputDirectories(absl::Span<const StoredFormat> formats);

// Returns "awq-gemm/config.json", or the name alone if there is no directory.
std::string InDirectory(absl::string_view directory, absl::string_view name);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_OUTPUT_DIRECTORIES_H_
