// Flags that several commands have.
#ifndef SALIENT_CLIENT_COMMANDS_FLAGS_H_
#define SALIENT_CLIENT_COMMANDS_FLAGS_H_

#include <array>
#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"
#include "client/jobs/session.h"
#include "client/jobs/token_file.h"
#include "client/options/method.h"
#include "client/options/quantize.h"

namespace salient::client {

// Adds method, range and codes. CheckServerHas and the server judge their values.
void AddMethodOptions(CLI::App& command, MethodOptions& options);

// Adds --format and --activations of one result.
void AddLayoutOptions(CLI::App& command, std::string& format, std::string& activations);

// Adds method, formats, and what else a QuantizeTask has.
void AddQuantizeOptions(CLI::App& command, QuantizeOptions& options);

// Adds --tensor-parallel: devices that share a model.
void AddTensorParallelOption(CLI::App& command, int32_t& devices);

// Codes that nothing is stored in: what is rounded and decoded again.
struct CodeFlags {
  int32_t bits = 0;        // 0 says that it was not given.
  int64_t group_size = 0;  // 0 says that it was not given.
  bool symmetric = false;
};

// Adds --bits, --group-size and --symmetric, each with `prefix` behind the dashes; `of` begins what
// is said of them. Returns the first two.
std::array<CLI::Option*, 2> AddCodeOptions(CLI::App& command, const std::string& prefix,
                                           const std::string& of, CodeFlags& flags);
v1::WeightFormat ToWeightFormat(const CodeFlags& flags);

// Tokens that are scored: --evaluation, which is required, and --rows.
struct ScoredTokens {
  std::string file;
  TokenRowFlags rows;
};
void AddScoredTokensOptions(CLI::App& command, ScoredTokens& tokens);

// Adds --allow-long-rows, which is for all token files of a command.
void AddLongRowsOption(CLI::App& command, bool& allow);

// Adds --server, whose default is what `server` holds; empty means an embedded server.
CLI::Option* AddServerOption(CLI::App& command, std::string& server);

// Adds --json: what a command says ends with one object.
void AddJsonOption(CLI::App& command, bool& json);

// Adds --server or --workers and --instruction-set: where a job runs.
void AddSessionOptions(CLI::App& command, SessionFlags& flags);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_COMMANDS_FLAGS_H_
