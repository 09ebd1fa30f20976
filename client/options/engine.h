// Engines as flags and as values of the contract.
#ifndef SALIENT_CLIENT_OPTIONS_ENGINE_H_
#define SALIENT_CLIENT_OPTIONS_ENGINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "salient/v1/job.pb.h"
#include "salient/v1/server_info.pb.h"

namespace salient::client {

struct EngineOptions {
  std::vector<std::string> engines;  // They must be able to load the result.
  int32_t tensor_parallel = 1;       // So many devices will share it.
};

// Returns "vllm"; "engine 9" for one that this client has no name for.
std::string EngineText(v1::Engine engine);

// Says in `task` what the options do. INVALID_ARGUMENT names an unknown engine and the
// known ones.
absl::Status AddEngines(const EngineOptions& options, v1::QuantizeTask& task);

// Returns UNIMPLEMENTED, naming the flag, its value and the engines that the server knows, for one
// that the server does not say it knows.
absl::Status CheckServerKnows(const v1::GetServerInfoResponse& info, v1::Engine engine);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_ENGINE_H_
