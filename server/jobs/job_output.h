// Says where the tensors of a quantize job go: blobs, readable at once, or a directory that appears
// complete.
#ifndef SALIENT_SERVER_JOBS_JOB_OUTPUT_H_
#define SALIENT_SERVER_JOBS_JOB_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/result/quantized_checkpoint.h"
#include "core/safetensors/layout.h"
#include "core/tensor/named_tensor.h"
#include "server/jobs/prepared_model.h"
#include "server/jobs/running_job.h"
#include "server/store/digest.h"

namespace salient {

// This much of a file that is copied or hashed is in memory at a time.
inline constexpr int64_t kReadBytes = int64_t{1} << 20;

// Takes the tensors of the plans of all of a job's results; `output` is an index
// into PreparedJob::outputs. Dropped before Finish returned OK, nothing of it stays (blobs: when
// the job's ResultBlobs::Hold goes).
class JobOutput {
 public:
  virtual ~JobOutput() = default;

  // Adds those of decoder blocks.
  virtual absl::Status AddTensors(size_t output, absl::Span<const NamedTensor> tensors) = 0;
  // Fixes the plans, by output, as they are in the end, when all tensors were added. Their tensors
  // are those of OpenOutput's unless the task limits the error. It is called once.
  virtual absl::Status Settle(std::vector<QuantizedCheckpointPlan> plans) = 0;
  // Adds bytes of the tensors that all results have, one after the other, each from its beginning
  // to its end.
  virtual absl::Status AddBytes(const TensorShape& tensor, int64_t offset,
                                absl::Span<const std::byte> bytes) = 0;
  // Writes, when all tensors are there, config, index and carried files, and the digests of all
  // files, which the observer is told of. Returns the bytes of all files.
  virtual absl::StatusOr<int64_t> Finish() = 0;
};

// Opens what the job's task asks for. `plans`, by output, are of the source whose headers are known
// by now, as if no group were raised. Returns the errors of CheckpointWriter, and
// RESOURCE_EXHAUSTED, SPOOL_FULL, for a full disk or store.
absl::StatusOr<std::unique_ptr<JobOutput>> OpenOutput(
    RunningJob& job, absl::Span<const QuantizedCheckpointPlan> plans);

// Is a file that a result takes along, in a directory or a blob.
struct CarriedFile {
  std::string name;
  std::string path;  // It is empty for `blob`.
  Digest blob;
};

// Returns them in the order of their names.
absl::StatusOr<std::vector<CarriedFile>> CarriedFiles(const PreparedModel& model);

// Open the two kinds that OpenOutput chooses from.
absl::StatusOr<std::unique_ptr<JobOutput>> OpenBlobOutput(RunningJob& job);
absl::StatusOr<std::unique_ptr<JobOutput>> OpenDirectoryOutput(
    RunningJob& job, absl::Span<const QuantizedCheckpointPlan> plans);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_OUTPUT_H_
