// Tells users what is wrong with a command line, in the words that they typed.
#ifndef SALIENT_CLIENT_COMMANDS_COMMAND_LINE_H_
#define SALIENT_CLIENT_COMMANDS_COMMAND_LINE_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace salient::client {

// Returns the arguments of main without the program's name. "help [COMMAND...]" becomes
// "[COMMAND...] --help" and "version" --version.
std::vector<std::string> Arguments(int argc, const char* const* argv);

// Describes what `app` found wrong, which reported `error`: unknown commands and flags come first,
// with the ones that may have been meant.
std::string UsageText(const CLI::App& app, const CLI::ParseError& error);

// Returns the command that was chosen as far as it is known, such as "salient jobs watch".
std::string ChosenCommand(const CLI::App& app);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_COMMANDS_COMMAND_LINE_H_
