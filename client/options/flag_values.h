// Checks the values of flags. Each check says the value and what was expected.
#ifndef SALIENT_CLIENT_OPTIONS_FLAG_VALUES_H_
#define SALIENT_CLIENT_OPTIONS_FLAG_VALUES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/options/enum_text.h"

namespace salient::client {

// Takes an integer from `least` to `most`.
CLI::Validator IntegerIn(int64_t least, int64_t most);
// Takes an integer that is not negative.
CLI::Validator Count();
// Takes a number from `least` to `most`.
CLI::Validator NumberIn(double least, double most);
// Takes a number that is not negative.
CLI::Validator NotNegative();
// Takes an integer of 64 bits without a sign.
CLI::Validator Seed();
// Takes one of `names`; the error for a mistyped one suggests the nearest.
CLI::Validator OneOf(std::vector<std::string> names);
// Takes one of an enum's texts; help and error tell those of flags.
template <typename Enum>
CLI::Validator OneOfEnum() {
  const std::vector<std::string> names = FlagTexts<Enum>();
  return CLI::Validator(
      [names](std::string& value) -> std::string {
        return EnumNamed<Enum>(value).has_value() ? "" : OneOf(names)(value);
      },
      absl::StrCat("{", absl::StrJoin(names, ","), "}"));
}
// Takes the number of in_features that share a scale: N, -1 or channel, and, if `whole_tensor`, -2
// or tensor. Names become numbers.
CLI::Validator GroupSize(bool whole_tensor);
// Takes bytes: a number, or one with a unit of 1024 (8G, 64GiB, 512MB), becomes a number.
CLI::Validator Bytes();
// Takes seconds: a number, or one with a unit (250ms, 30s, 5m, 2h, 1d), becomes a number.
CLI::Validator Seconds();
// Takes what ServerAddress takes; the value becomes what it returns.
CLI::Validator Address();
// This is what a flag for a file or a directory expects.
inline constexpr char kPath[] = "a path";
// Takes any text but the empty one, which a shell makes of a variable that is not set.
CLI::Validator Given(const std::string& expected);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_OPTIONS_FLAG_VALUES_H_
