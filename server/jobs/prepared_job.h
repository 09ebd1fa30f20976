// A job that was judged as far as that is possible without work, and what running it needs.
#ifndef SALIENT_SERVER_JOBS_PREPARED_JOB_H_
#define SALIENT_SERVER_JOBS_PREPARED_JOB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/model_config.h"
#include "core/checkpoint/tensor_source.h"
#include "core/quantized_checkpoint.h"
#include "server/jobs/arriving_checkpoint.h"
#include "server/jobs/job.h"
#include "server/jobs/job_table.h"
#include "server/jobs/model_manifest.h"
#include "server/store/blob_store.h"

namespace salient {

// Blobs, or a directory.
struct PreparedModel {
  std::string path;        // without links, below the root; empty: blobs
  ModelManifest manifest;  // of a directory: config_json and config alone

  const ModelConfig& config() const { return manifest.config; }
};

// A model whose tensors can be asked for. Borrows the PreparedModel.
struct OpenModel {
  std::unique_ptr<TensorSource> source;
  ArrivingCheckpoint* arriving = nullptr;  // the source, if it is made of blobs
  bool headers_known = false;              // all of them
  int64_t tensor_bytes = 0;                // of all tensors, once headers are known
};

// One of the results of a QuantizeTask.
struct PreparedOutput {
  std::string directory;  // as OutputDirectories says
  QuantizedCheckpointPlan plan;
};

struct PreparedJob {
  PreparedModel model;
  std::optional<PreparedModel> reference;
  std::vector<PreparedOutput> outputs;         // of a QuantizeTask, by format
  std::string output_path;                     // of a QuantizeTask; empty: blobs
  std::vector<int64_t> row_tokens;             // guessed while the tokens are not here
  std::vector<int64_t> evaluation_row_tokens;  // the same, of a StudyTask
  std::vector<Digest> needed;                  // all blobs that it reads, each once
  std::optional<Digest> tokens;                // one of them
  std::vector<std::string> warnings;           // what a user should know beforehand, in sentences
  std::optional<Inspection> inspection;        // of an InspectTask
};

// Opens a directory, or what is there of blobs: headers that arrived are parsed. `arrival` waits
// for the rest, null: nothing is read. Errors, INVALID_ARGUMENT, BAD_MODEL, as Checkpoint::Open and
// ArrivingCheckpoint::ReadHeaders.
absl::StatusOr<OpenModel> OpenModelFiles(const PreparedModel& model, BlobStore& store,
                                         BlobArrival* arrival);

// Reads config, index, headers that are here and tokens that are here; may wait for a disk. All
// errors have a reason and name what is at fault; see JobTable::Submit.
absl::StatusOr<PreparedJob> PrepareJob(const JobSpec& spec, const JobTableSettings& settings,
                                       BlobStore& store);

// Gives an error of the core, about a model, the reason that its code means; one that has a reason
// keeps it.
absl::Status WithModelReason(absl::Status status);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_PREPARED_JOB_H_
