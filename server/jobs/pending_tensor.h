// Holds a tensor that comes in pieces and whose digest is not known before all of it passed.
#ifndef SALIENT_SERVER_JOBS_PENDING_TENSOR_H_
#define SALIENT_SERVER_JOBS_PENDING_TENSOR_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/safetensors/layout.h"
#include "proto/wire/sha256.h"
#include "server/jobs/result_blobs.h"
#include "server/store/digest.h"
#include "server/store/file.h"
#include "server/workers/cancel_token.h"

namespace salient {

// Holds a tensor that still arrives, in memory or, if it is larger than 32 MiB, in a file of
// `directory`. It holds one at a time.
class PendingTensor {
 public:
  PendingTensor(std::string directory, TensorShape tensor)
      : directory_(std::move(directory)), tensor_(std::move(tensor)) {}

  const TensorShape& tensor() const { return tensor_; }
  bool IsWhole() const { return sha256_.size_bytes() == tensor_.SizeBytes(); }

  // Appends the next bytes. Returns INTERNAL if they are others, and the errors of the file.
  absl::Status Append(int64_t offset, absl::string_view bytes);

  // Stores it as a blob, once it is whole.
  absl::StatusOr<Digest> Store(const CancelToken& stop, ResultBlobs::Hold& results);

 private:
  const std::string directory_;
  const TensorShape tensor_;
  Sha256 sha256_;
  std::string held_;
  File file_;
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_PENDING_TENSOR_H_
