// Sends bytes to a server, wherever the connection breaks.
#ifndef SALIENT_CLIENT_TRANSFER_BLOB_UPLOAD_H_
#define SALIENT_CLIENT_TRANSFER_BLOB_UPLOAD_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/transfer/call_group.h"
#include "client/transfer/local_blob.h"
#include "client/transfer/retry.h"

namespace salient::client {

// Returns those that the server does not hold, in order, each digest once. Its errors are those of
// FromGrpcStatus.
absl::StatusOr<std::vector<LocalBlob>> FindMissing(const JobServer& server, CallGroup& calls,
                                                   absl::Span<const LocalBlob> blobs);

// Told of progress: bytes of the blob that need no more sending.
using BytesCommitted = absl::FunctionRef<void(int64_t bytes)>;

// Uploads one blob in chunks of 1 MiB with their crc32c. After a broken stream it asks how much is
// committed and goes on from there. `committed` is told what each step added; the sum is the size.
//
// Errors: NOT_FOUND or DATA_LOSS, naming the file, if it went away or shrank; INVALID_ARGUMENT if
// its bytes are not those that were hashed; of FromGrpcStatus, after patience.
absl::Status UploadBlob(const JobServer& server, CallGroup& calls, const LocalBlob& blob,
                        BytesCommitted committed);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_BLOB_UPLOAD_H_
