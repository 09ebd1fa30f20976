// Converts what is to be quantized and how: from the contract's message to our type.
#ifndef SALIENT_SERVER_RPC_CONVERT_QUANTIZE_TASK_H_
#define SALIENT_SERVER_RPC_CONVERT_QUANTIZE_TASK_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "salient/v1/job.pb.h"
#include "server/jobs/job.h"

namespace salient {

inline constexpr int kMaxOverrides = 65536;

// `path` is where the message stands in the request. Its errors are those of ToJobSpec.
absl::StatusOr<QuantizeTask> ToQuantizeTask(absl::string_view path,
                                            const v1::QuantizeTask& message);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_QUANTIZE_TASK_H_
