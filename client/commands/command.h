// Names what main dispatches to.
#ifndef SALIENT_CLIENT_COMMANDS_COMMAND_H_
#define SALIENT_CLIENT_COMMANDS_COMMAND_H_

#include <functional>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "client/options/server_address.h"  // IWYU pragma: export
#include "client/terminal/interrupt.h"

namespace salient::client {

// Is a subcommand. `run` is called after the command line was parsed, if `arguments` was chosen;
// its error is printed by main and becomes the exit code.
struct Command {
  CLI::App* arguments = nullptr;  // Owned by the app it was added to.
  std::function<absl::Status(Interrupt&)> run;
};

// Adds salient quantize: a model directory becomes a quantized one.
Command AddQuantizeCommand(CLI::App& app);
// Adds salient verify: it tells the perplexity of a result, beside its source.
Command AddVerifyCommand(CLI::App& app);
// Adds salient study: it tells what a few salient channels in F16 are worth.
Command AddStudyCommand(CLI::App& app);
// Adds salient estimate: it tells what quantizing would cost.
Command AddEstimateCommand(CLI::App& app);
// Adds salient inspect: it tells what a model directory is, and which engines load it.
Command AddInspectCommand(CLI::App& app);
// Adds salient jobs: list, watch, cancel, delete, download.
std::vector<Command> AddJobsCommands(CLI::App& app);
// Adds salient tensors: it calls QuantizeTensors with files and writes a file.
Command AddTensorsCommand(CLI::App& app);
// Adds salient health: it tells whether a server is serving.
Command AddHealthCommand(CLI::App& app);
// Adds salient info: it tells what a server is and has.
Command AddInfoCommand(CLI::App& app);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_COMMANDS_COMMAND_H_
