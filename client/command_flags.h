// Flags that several commands have.
#ifndef SALIENT_CLIENT_COMMAND_FLAGS_H_
#define SALIENT_CLIENT_COMMAND_FLAGS_H_

#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"
#include "client/job_session.h"
#include "client/method_options.h"
#include "client/quantize_options.h"

namespace salient::client {

// Method, range, format: what CheckServerHas and the server judge.
void AddMethodOptions(CLI::App& command, MethodOptions& options);

// Those, and what else a QuantizeTask has.
void AddQuantizeOptions(CLI::App& command, QuantizeOptions& options);

// --tensor-parallel: devices that share a model.
void AddTensorParallelOption(CLI::App& command, int32_t& devices);

// --instruction-set of the embedded server, which `server` excludes.
void AddInstructionSetOption(CLI::App& command, CLI::Option* server, std::string& instruction_set);

// --server or --workers and --instruction-set: where a job runs.
void AddSessionOptions(CLI::App& command, SessionFlags& flags);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_COMMAND_FLAGS_H_
