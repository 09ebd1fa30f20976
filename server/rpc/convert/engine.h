// Engines and what is known of a checkpoint: between the contract's messages and the core's types.
#ifndef SALIENT_SERVER_RPC_CONVERT_ENGINE_H_
#define SALIENT_SERVER_RPC_CONVERT_ENGINE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/engines/inspection.h"
#include "core/engines/preflight.h"
#include "salient/v1/job.pb.h"

namespace salient {

// `path` is where the task stands in the request, "spec.quantize". Each engine counts once.
// BAD_JOB for an engine that there is not, or devices out of range.
absl::StatusOr<EngineRequest> ToEngineRequest(absl::string_view path,
                                              const google::protobuf::RepeatedField<int>& engines,
                                              int32_t tensor_parallel);

// Returns 1 if it is not set, and BAD_JOB if it is out of range.
absl::StatusOr<int64_t> ToTensorParallel(absl::string_view path, int32_t tensor_parallel);

v1::Inspection ToProto(const Inspection& inspection);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_ENGINE_H_
