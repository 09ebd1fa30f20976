// Says what the files of a manifest are to a model: read, taken along, or of no concern.
#ifndef SALIENT_SERVER_JOBS_MODEL_MANIFEST_H_
#define SALIENT_SERVER_JOBS_MODEL_MANIFEST_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/checkpoint/shard_index.h"
#include "core/model/model.h"
#include "server/jobs/job.h"
#include "server/store/blob_store.h"
#include "server/store/digest.h"

namespace salient {

struct ModelManifest {
  std::string config_json;
  Model model;
  std::optional<ShardIndex> index;
  std::vector<ModelFile> weights;  // They stand in the order of the index, or are the single file.
  std::vector<ModelFile> carried;  // A result takes them along.
  std::vector<Digest> needed;      // It names everything above, each once.
};

// Reads config and index, which must be inline or in `store`; may wait for a disk. `field` is
// where the files stand in the request, such as "model".
//
// Errors: INVALID_ARGUMENT, BAD_MODEL, naming the file and what is wrong with its name, its
// content or its absence; DIGEST_MISMATCH for inline content of another digest; UNIMPLEMENTED as
// ParseModelConfig; FAILED_PRECONDITION, MISSING_BLOB, for a config or index that is neither.
absl::StatusOr<ModelManifest> ReadManifest(absl::string_view field,
                                           absl::Span<const ModelFile> files, BlobStore& store);

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_MODEL_MANIFEST_H_
