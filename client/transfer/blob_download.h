// Reads bytes from a server, wherever the connection breaks.
#ifndef SALIENT_CLIENT_TRANSFER_BLOB_DOWNLOAD_H_
#define SALIENT_CLIENT_TRANSFER_BLOB_DOWNLOAD_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/transfer/call_group.h"
#include "client/transfer/retry.h"
#include "salient/v1/blob_service.pb.h"

namespace salient::client {

// Gives the blob's bytes to `take`, in order, each once; after a broken stream goes on from where
// it was. Trusts nothing: chunks have no holes, have their crc32c, and the whole has the digest,
// which is known only at the end.
//
// Errors: DATA_LOSS if the bytes do not have the digest; INTERNAL for what a server must not send;
// of `take`; of FromGrpcStatus, after patience.
absl::Status DownloadBlob(const JobServer& server, CallGroup& calls, const v1::Digest& digest,
                          absl::FunctionRef<absl::Status(absl::string_view bytes)> take);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TRANSFER_BLOB_DOWNLOAD_H_
