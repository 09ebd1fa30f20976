// Is the command line of Salient.
#include <algorithm>
#include <cstdio>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/commands/command.h"
#include "client/commands/command_line.h"
#include "client/terminal/errors.h"
#include "client/terminal/interrupt.h"
#include "client/terminal/standard_output.h"
#include "core/file/signals.h"
#include "core/file/standard_descriptors.h"

namespace salient::client {
namespace {

constexpr char kFooter[] =
    "Exit codes: 0 done, 2 usage, 42 bad input, 69 server unavailable, 70 other failure,\n"
    "75 try again later, 76 cancelled by somebody else, 130 interrupted.";

// Tells people, and machines that asked for JSON and have no answer yet.
int Fail(const CLI::App& app, const absl::Status& status, bool json) {
  const int exit_code = ExitCodeOf(status);
  std::fprintf(stderr, "salient: %s\n", ErrorText(status).c_str());
  if (exit_code == kExitUsage) {
    std::fprintf(stderr, "Run %s --help for what there is.\n", ChosenCommand(app).c_str());
  }
  // The error that matters more is told already.
  if (json && !OutputWritten()) {
    WriteOutput(absl::StrCat(ErrorJson(status, exit_code), "\n")).IgnoreError();
  }
  return exit_code;
}

bool WantsJson(const CLI::App& command) {
  const CLI::Option* json = command.get_option_no_throw("--json");
  return json != nullptr && json->count() > 0;
}

int Main(int argc, char** argv) {
  HoldStandardDescriptors();
  IgnoreSignalsOfWrites();
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
  std::vector<std::string> arguments = Arguments(argc, argv);
  const bool json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  std::reverse(arguments.begin(), arguments.end());  // So parse wants them.
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& success) {
    std::ostringstream text;
    app.exit(success, text, text);
    const absl::Status written = WriteOutput(text.str());
    return written.ok() ? kExitDone : Fail(app, written, false);
  } catch (const CLI::ParseError& error) {
    return Fail(app, UsageError(UsageText(app, error)), json);
  }

  for (const Command& command : commands) {
    if (!command.arguments->parsed()) continue;
    const absl::Status status = command.run(interrupt);
    if (!status.ok()) return Fail(app, status, WantsJson(*command.arguments));
  }
  return kExitDone;
}

}  // namespace
}  // namespace salient::client

int main(int argc, char** argv) { return salient::client::Main(argc, argv); }
