#include "core/text/measure.h"

#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace salient {
namespace {

struct NumberWithUnit {
  absl::string_view number;
  std::string unit;  // It is in lower case, and empty if there is none.
};

// Takes the letters at the end for the unit. A unit without a number has an empty number.
NumberWithUnit Split(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  size_t end = text.size();
  while (end > 0 && absl::ascii_isalpha(static_cast<unsigned char>(text[end - 1]))) --end;
  return {absl::StripTrailingAsciiWhitespace(text.substr(0, end)),
          absl::AsciiStrToLower(text.substr(end))};
}

// Returns how often 1024 is a factor of the unit.
std::optional<int> PowerOf1024(absl::string_view unit) {
  if (unit.empty() || unit == "b") return 0;
  const size_t power = absl::string_view("kmgtpe").find(unit.front());
  unit.remove_prefix(1);
  const bool known = unit.empty() || unit == "i" || unit == "b" || unit == "ib";
  if (power == absl::string_view::npos || !known) return std::nullopt;
  return static_cast<int>(power) + 1;
}

struct SecondsUnit {
  absl::string_view unit;
  double seconds;
};
constexpr SecondsUnit kSecondsUnits[] = {{"", 1},     {"ms", 0.001}, {"s", 1},    {"m", 60},
                                         {"min", 60}, {"h", 3600},   {"d", 86400}};

}  // namespace

std::optional<int64_t> ParseBytes(absl::string_view text) {
  const NumberWithUnit parts = Split(text);
  const std::optional<int> power = PowerOf1024(parts.unit);
  int64_t number = 0;
  if (!power.has_value() || !absl::SimpleAtoi(parts.number, &number) || number < 0) {
    return std::nullopt;
  }
  const int64_t unit = int64_t{1} << (10 * *power);
  if (number > std::numeric_limits<int64_t>::max() / unit) return std::nullopt;
  return number * unit;
}

std::optional<double> ParseSeconds(absl::string_view text) {
  const NumberWithUnit parts = Split(text);
  for (const auto& [unit, seconds] : kSecondsUnits) {
    if (unit != parts.unit) continue;
    double number = 0;
    if (!absl::SimpleAtod(parts.number, &number)) return std::nullopt;
    const double value = number * seconds;
    if (!std::isfinite(value) || value < 0) return std::nullopt;
    return value;
  }
  return std::nullopt;
}

std::string NumberText(int64_t number) { return absl::StrCat(number); }

std::string NumberText(double number) {
  // Six digits, as StrCat has them, would round.
  return absl::StrFormat("%.17g", number);
}

}  // namespace salient
