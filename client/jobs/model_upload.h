// Describes a model on this machine to a server that has nothing of it.
#ifndef SALIENT_CLIENT_JOBS_MODEL_UPLOAD_H_
#define SALIENT_CLIENT_JOBS_MODEL_UPLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transfer/local_blob.h"
#include "salient/v1/job.pb.h"

namespace salient::client {

// A manifest holds at most this much inline, counting every model of a job together.
inline constexpr int64_t kInlineBytes = int64_t{2} << 20;

struct ModelUpload {
  v1::ModelManifest manifest;
  // The server has to have these before it can judge a job: config and index, unless inline.
  std::vector<LocalBlob> first;
  // Weights, in the order of blocks, then what is taken along.
  std::vector<LocalBlob> rest;

  int64_t Bytes() const;
};

// Looks at all files but hashes none: what is wrong with a model on this machine is found before
// anything slow happens. Errors: of Checkpoint::Open; NOT_FOUND for a directory without config.
absl::Status CheckModelDirectory(const std::string& directory);

// Returns the size of all files that DescribeModel hashes. Its errors are those of
// CheckModelDirectory.
absl::StatusOr<int64_t> BytesToHash(const std::string& directory);

// Hashes every file that a server needs: config, index, the weights that the index names, and what
// goes along. Config, index and the headers of weights are put inline, in this order, as far as
// `inline_bytes` goes. `read` is told of bytes hashed and stops by false.
//
// Its errors are those of CheckModelDirectory and DigestOfFile.
absl::StatusOr<ModelUpload> DescribeModel(const std::string& directory, int64_t inline_bytes,
                                          absl::FunctionRef<bool(int64_t bytes)> read);

// Does the same for a server that looks at headers alone: what goes along is left out, weights
// whose header is inline have their size for a name and are not read, and none is to be uploaded.
// Those whose header finds no room are hashed, in case that the server has them.
absl::StatusOr<ModelUpload> DescribeHeaders(const std::string& directory, int64_t inline_bytes,
                                            absl::FunctionRef<bool(int64_t bytes)> read);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_JOBS_MODEL_UPLOAD_H_
