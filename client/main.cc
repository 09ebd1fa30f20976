// salient: the command line of Salient.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "client/command.h"
#include "client/errors.h"
#include "client/interrupt.h"

namespace salient::client {
namespace {

constexpr char kFooter[] =
    "Exit codes: 0 done, 2 usage, 42 bad input, 69 server unavailable, 70 other failure,\n"
    "75 try again later, 130 interrupted.";

int Fail(const absl::Status& status) {
  std::fflush(stdout);
  std::fprintf(stderr, "salient: %s\n", std::string(status.message()).c_str());
  return ExitCodeOf(status);
}

int Main(int argc, char** argv) {
  Interrupt interrupt;
  CLI::App app("Quantizes weights of large language models, here or on a Salient server.",
               "salient");
  app.set_version_flag("--version", std::string("salient ") + SALIENT_VERSION);
  app.footer(kFooter);
  app.require_subcommand(1);
  std::vector<Command> commands = {AddQuantizeCommand(app), AddVerifyCommand(app),
                                   AddStudyCommand(app), AddEstimateCommand(app),
                                   AddInspectCommand(app)};
  for (Command& command : AddJobsCommands(app)) commands.push_back(command);
  commands.push_back(AddTensorsCommand(app));
  commands.push_back(AddHealthCommand(app));
  commands.push_back(AddInfoCommand(app));

  // CLI11 reports by exceptions; they end here.
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitUsage;
  }

  for (const Command& command : commands) {
    if (!command.arguments->parsed()) continue;
    if (const absl::Status status = command.run(interrupt); !status.ok()) return Fail(status);
    if (std::fflush(stdout) != 0) {
      return Fail(absl::InternalError("standard output cannot be written"));
    }
  }
  return kExitDone;
}

}  // namespace
}  // namespace salient::client

int main(int argc, char** argv) { return salient::client::Main(argc, argv); }
