// Is a job that was judged as far as that is possible without work, and what running it needs.
#ifndef SALIENT_SERVER_JOBS_PREPARED_JOB_H_
#define SALIENT_SERVER_JOBS_PREPARED_JOB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/engines/inspection.h"
#include "core/result/quantized_checkpoint.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"
#include "server/jobs/prepared_model.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"
#include "server/workers/cancel_token.h"

namespace salient {

// Describes one of the results of a QuantizeTask.
struct PreparedOutput {
  std::string directory;  // It is the one that OutputDirectories says.
  QuantizedCheckpointPlan plan;
};

struct PreparedJob {
  PreparedModel model;
  std::optional<PreparedModel> reference;
  std::vector<PreparedOutput> outputs;         // A QuantizeTask has one a format.
  std::string output_path;                     // A QuantizeTask has it; it is empty for blobs.
  std::vector<int64_t> row_tokens;             // They are guessed while the tokens are not here.
  std::vector<int64_t> evaluation_row_tokens;  // A StudyTask has them, too.
  std::vector<Digest> needed;                  // It names all blobs that the job reads, each once.
  std::optional<Digest> tokens;                // It is one of them.
  std::vector<std::string> warnings;     // Each is a sentence that a user should know beforehand.
  std::optional<Inspection> inspection;  // An InspectTask has it.
};

// Reads config, index, headers that are here and tokens that are here; may wait for a disk. All
// errors have a reason and name what is at fault; see JobTable::Submit. Ends early with the error
// of `stop` once that stopped.
absl::StatusOr<PreparedJob> PrepareJob(const JobSpec& spec, const JobTableSettings& settings,
                                       BlobStore& store, const CancelToken& stop);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_PREPARED_JOB_H_
