// Fields that several tasks have: from the contract's messages to our types.
#ifndef SALIENT_SERVER_RPC_CONVERT_JOB_FIELDS_H_
#define SALIENT_SERVER_RPC_CONVERT_JOB_FIELDS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/model/activations.h"
#include "salient/v1/job.pb.h"
#include "server/jobs/job.h"

namespace salient {

inline constexpr int64_t kMaxPathBytes = 4096;

// In all of these `field` or `path` is where the value stands in the request. BAD_JOB, if nothing
// else is said.

// Returns "<field> is <value>; expected <expected>".
absl::Status BadJob(absl::string_view field, absl::string_view value, absl::string_view expected);

// Returns BAD_PATH for a path that is too long or has control characters.
absl::Status CheckPath(absl::string_view field, absl::string_view path);

// Reads tokens. Errors are also BAD_DIGEST, and BAD_PATH for the name.
absl::StatusOr<TokenBlob> ToTokens(absl::string_view path, const v1::TokenCalibration& message);

absl::StatusOr<ComputeDType> ToCompute(absl::string_view field, int value);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_JOB_FIELDS_H_
