// Says what is to be made of a model, as flags and as a task.
#ifndef SALIENT_CLIENT_OPTIONS_QUANTIZE_H_
#define SALIENT_CLIENT_OPTIONS_QUANTIZE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/options/engine.h"
#include "client/options/method.h"
#include "salient/v1/job.pb.h"

namespace salient::client {

struct QuantizeOptions {
  MethodOptions method;
  // ParseFormat takes each. None: int-quantized, which the preset smoothquant is for, else
  // awq-gemm.
  std::vector<std::string> formats;
  std::vector<std::string> overrides;  // They are as ParseOverride takes them.
  double max_relative_error = 0;       // 0 sets no limit.
  bool strict = false;                 // A Linear that the group size does not suit is an error.
  std::string compute_dtype = "bf16";  // It may be f32.
  int64_t max_shard_bytes = 0;         // 0 stands for the server's default.
  EngineOptions engines;
};

// Returns a task that lacks its tokens. Returns INVALID_ARGUMENT as ToMethod, ParseFormat,
// ParseOverride and AddEngines: the flags alone are looked at.
absl::StatusOr<v1::QuantizeTask> ToTask(const QuantizeOptions& options);

// Calls CheckServerHas for each of its formats and CheckServerKnows for each of its engines.
absl::Status CheckServerHas(const v1::GetServerInfoResponse& info, const v1::QuantizeTask& task);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_QUANTIZE_H_
