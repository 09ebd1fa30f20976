// The model that a job names: found, judged as far as that is possible without work, opened.
#ifndef SALIENT_SERVER_JOBS_PREPARED_MODEL_H_
#define SALIENT_SERVER_JOBS_PREPARED_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/tensor_source.h"
#include "core/config/model/model_config.h"
#include "core/model/model.h"
#include "core/model/own_head.h"
#include "core/result/plain_dtypes.h"
#include "server/jobs/arriving_checkpoint.h"
#include "server/jobs/blob_arrival.h"
#include "server/jobs/job.h"
#include "server/jobs/model_manifest.h"
#include "server/jobs/model_stamps.h"
#include "server/store/blob_store.h"

namespace salient {

// Is a model in blobs or in a directory.
struct PreparedModel {
  std::string path;                   // without links, below the root; empty: blobs
  ModelManifest manifest;             // of a directory: config_json and model alone
  std::optional<ModelStamps> stamps;  // of a directory

  // Fails unless the files of a directory are those that were judged. Its errors are those of
  // ModelStamps.
  absl::Status CheckUnchanged() const {
    return stamps.has_value() ? stamps->CheckUnchanged() : absl::OkStatus();
  }

  const Model& model() const { return manifest.model; }
  const ModelConfig& config() const { return manifest.model.config; }
};

// Is a model whose tensors can be asked for. It borrows the PreparedModel.
struct OpenModel {
  std::unique_ptr<TensorSource> source;
  ArrivingCheckpoint* arriving = nullptr;  // It is the source, if that is made of blobs.
  bool headers_known = false;              // It is true when all are known.
  int64_t tensor_bytes = 0;                // It counts all tensors, once headers are known.
  std::vector<std::string> tensor_names;   // They are those of the headers.
};

// Reads config and index, which must be inline, in `store`, or below `model_root`; may wait for a
// disk. `field` is where the source stands in the request. Its errors are those of ReadManifest;
// BAD_PATH for a directory outside the root, or one with links that lead out of it.
absl::StatusOr<PreparedModel> PrepareModel(absl::string_view field, const ModelSource& source,
                                           const std::string& model_root, BlobStore& store);

// Opens a directory, or blobs. Without `arrival` headers that are here are parsed, and nothing else
// can be read; with it the caller calls ArrivingCheckpoint::WaitForHeaders. Errors,
// INVALID_ARGUMENT, BAD_MODEL, as Checkpoint::Open and ArrivingCheckpoint::ReadHeaders, the latter
// only where all headers are inline or in blobs that are verified.
absl::StatusOr<OpenModel> OpenModelFiles(const PreparedModel& model, BlobStore& store,
                                         BlobArrival* arrival);

// Opens a model whose blobs are all whole: inline content is held against them, and its head is
// settled. Its errors are also those of ArrivingCheckpoint::WaitForHeaders, CheckInlineContent and
// SettleHead.
absl::StatusOr<OpenModel> OpenWholeModel(PreparedModel& model, BlobStore& store,
                                         BlobArrival& arrival);

// Holds the tensors against the config, if all headers are here, and its head as SampleHead. Its
// errors are those of OpenModelFiles, CheckModelTensors, SettleHead, CheckNotQuantized,
// or OpenQuantizedSource where the model may be quantized.
absl::Status CheckPreparedModel(PreparedModel& model, bool may_be_quantized, BlobStore& store);

// Checks that the files a result takes along may be read: they are copied when all else is done.
absl::Status CheckCarriedFiles(const PreparedModel& model);

// Says in the model's config if the head differs from the embeddings though the config ties the
// two. Waits for both where they are arriving. Its errors are those of HasOwnHead.
absl::Status SettleHead(const TensorSource& source, HeadComparison comparison,
                        PreparedModel& model);

// Says it from samples of both, if both are here: a copy may turn out to be none later.
absl::Status SampleHead(const TensorSource& source, PreparedModel& model);

// Says in a sentence what a user should know of a head of its own.
std::string OwnHeadWarning(const ModelConfig& config);

// Returns the dtypes of what its result does not quantize; nullopt if not all headers are here. Its
// errors are those of OpenModelFiles.
absl::StatusOr<std::optional<PlainDTypes>> FindPlainDTypes(const PreparedModel& model,
                                                           BlobStore& store);

// Says in a sentence what a result of a directory is without; empty if nothing that matters, or of
// blobs, of which whoever sent them knows. Its errors are those of ListModelDirectory.
absl::StatusOr<std::string> LeftBehind(const PreparedModel& model);

// Returns the weights of the whole model, as Usage has them.
int64_t CountParameters(const Model& model);

// Gives an error of the core, about a model, the reason that its code means; one that has a reason
// keeps it.
absl::Status WithModelReason(absl::Status status);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_PREPARED_MODEL_H_
