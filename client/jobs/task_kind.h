// Names what jobs do, as text and as what a server says it does.
#ifndef SALIENT_CLIENT_JOBS_TASK_KIND_H_
#define SALIENT_CLIENT_JOBS_TASK_KIND_H_

#include <string>

#include "absl/status/status.h"
#include "salient/v1/server_info.pb.h"

namespace salient::client {

// Returns "quantize"; "task 9" for one that this client has no name for.
std::string TaskKindText(v1::TaskKind kind);

// Returns UNIMPLEMENTED, naming the task and what the server does, for one that it does not say it
// does.
absl::Status CheckServerDoes(const v1::GetServerInfoResponse& info, v1::TaskKind kind);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_JOBS_TASK_KIND_H_
