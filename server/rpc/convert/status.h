// Converts our error type to what travels, and is the only place that does.
#ifndef SALIENT_SERVER_RPC_CONVERT_STATUS_H_
#define SALIENT_SERVER_RPC_CONVERT_STATUS_H_

#include <grpcpp/support/status.h>

#include <cstddef>

#include "absl/status/status.h"

namespace salient {

// Bounds of what a status takes on the wire: gRPC clients accept 8 KiB of metadata in all.
inline constexpr size_t kMaxStatusMessageBytes = 1024;
inline constexpr size_t kMaxStatusDetailsBytes = 3072;

// Returns the same code and message, with a google.rpc.Status of ErrorInfo (domain
// "salient.v1"), BadRequest, RetryInfo and QuotaFailure as the payloads of call_error.h say. What
// exceeds the bounds is cut; ErrorInfo.metadata["omitted"] counts the entries left out.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_STATUS_H_
