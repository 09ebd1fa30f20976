// Says what clients are told of the errors of server/store.
#ifndef SALIENT_SERVER_RPC_STREAMS_STORE_ERROR_H_
#define SALIENT_SERVER_RPC_STREAMS_STORE_ERROR_H_

#include "absl/status/status.h"

namespace salient {

// Returns `status` of a call on a BlobStore, with the reason that goes with its code: NOT_FOUND is
// UNKNOWN_BLOB, INVALID_ARGUMENT and OUT_OF_RANGE BAD_DIGEST, RESOURCE_EXHAUSTED SPOOL_FULL with a
// retry delay and the quota "store_bytes", ABORTED UPLOAD_TAKEN_OVER, DATA_LOSS BLOB_DAMAGED. A
// reason that is there stays. What else a disk may say is logged and becomes INTERNAL: it names
// paths of this host.
absl::Status ToStoreError(absl::Status status);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_STREAMS_STORE_ERROR_H_
