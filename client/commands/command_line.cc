#include "client/commands/command_line.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/options/spelling.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

// Returns the app and the commands that were chosen of it, outermost first.
std::vector<const CLI::App*> Chosen(const CLI::App& app) {
  std::vector<const CLI::App*> chosen = {&app};
  while (!chosen.back()->get_subcommands().empty()) {
    chosen.push_back(chosen.back()->get_subcommands().back());
  }
  return chosen;
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

bool IsFlag(const std::string& argument) {
  return argument.size() > 1 && argument[0] == '-' &&
         !absl::ascii_isdigit(static_cast<unsigned char>(argument[1]));
}

// `extras` is what `command` has no place for, in the order in which it was typed.
std::string ExtrasText(const CLI::App& command, const std::vector<std::string>& extras) {
  const std::string& first = extras.front();
  if (IsFlag(first)) {
    const std::string flag = first.substr(0, first.find('='));
    return absl::StrCat("unknown flag ", QuoteForMessage(flag),
                        DidYouMean(flag, FlagNames(command)));
  }
  if (const std::vector<std::string> names = CommandNames(command); !names.empty()) {
    const std::string meant = DidYouMean(first, names);
    return absl::StrCat(
        "unknown command ", QuoteForMessage(first),
        meant.empty() ? absl::StrCat("; expected ", absl::StrJoin(names, ", ")) : meant);
  }
  return absl::StrCat(extras.size() > 1 ? "unexpected arguments " : "unexpected argument ",
                      absl::StrJoin(extras, " ", [](std::string* out, const std::string& extra) {
                        absl::StrAppend(out, QuoteForMessage(extra));
                      }));
}

}  // namespace

std::vector<std::string> Arguments(int argc, const char* const* argv) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  if (arguments.empty()) return arguments;
  if (arguments[0] == "help") {
    arguments.erase(arguments.begin());
    arguments.push_back("--help");
  } else if (arguments[0] == "version" && arguments.size() == 1) {
    arguments[0] = "--version";
  }
  return arguments;
}

std::string UsageText(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<const CLI::App*> chosen = Chosen(app);
  for (const CLI::App* command : chosen) {
    const std::vector<std::string> extras = command->remaining();
    if (!extras.empty()) return ExtrasText(*command, extras);
  }
  const std::vector<std::string> names = CommandNames(*chosen.back());
  if (!names.empty()) {
    return absl::StrCat("a command is missing; expected ", absl::StrJoin(names, ", "));
  }
  return error.what();
}

std::string ChosenCommand(const CLI::App& app) {
  return absl::StrJoin(Chosen(app), " ", [](std::string* out, const CLI::App* command) {
    absl::StrAppend(out, command->get_name());
  });
}

}  // namespace salient::client
