// What is wrong with a command line, in the words of whoever typed it.
#ifndef SALIENT_CLIENT_COMMAND_LINE_H_
#define SALIENT_CLIENT_COMMAND_LINE_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace salient::client {

// The arguments of main without the program's name. "help [COMMAND...]" becomes "[COMMAND...]
// --help" and "version" --version.
std::vector<std::string> Arguments(int argc, const char* const* argv);

// What `app` found wrong, which reported `error`: unknown commands and flags first, with the ones
// that may have been meant.
std::string UsageText(const CLI::App& app, const CLI::ParseError& error);

// "salient jobs watch", the command that was chosen as far as it is known.
std::string ChosenCommand(const CLI::App& app);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_COMMAND_LINE_H_
