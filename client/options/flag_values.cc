#include "client/options/flag_values.h"

#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/options/server_address.h"
#include "client/options/spelling.h"
#include "core/text/measure.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

constexpr int64_t kMaxGroupSize = int64_t{1} << 30;

std::string Bad(absl::string_view value, absl::string_view expected) {
  return absl::StrCat(QuoteForMessage(value), "; expected ", expected);
}

// Puts the number that `parse` makes of the value in its place.
template <typename Number>
CLI::Validator WithUnit(std::optional<Number> (*parse)(absl::string_view),
                        const std::string& expected, const std::string& shown) {
  return CLI::Validator(
      [parse, expected](std::string& value) -> std::string {
        const std::optional<Number> number = parse(value);
        if (!number.has_value()) return Bad(value, expected);
        value = NumberText(*number);
        return "";
      },
      shown);
}

}  // namespace

CLI::Validator IntegerIn(int64_t least, int64_t most) {
  const bool bounded = most < std::numeric_limits<int64_t>::max();
  const std::string expected = bounded ? absl::StrCat("an integer from ", least, " to ", most)
                                       : absl::StrCat("an integer of at least ", least);
  return CLI::Validator(
      [least, most, expected](std::string& value) -> std::string {
        int64_t number = 0;
        const bool good = absl::SimpleAtoi(value, &number) && number >= least && number <= most;
        return good ? "" : Bad(value, expected);
      },
      bounded ? absl::StrCat("in [", least, " - ", most, "]") : "");
}

CLI::Validator Count() { return IntegerIn(0, std::numeric_limits<int64_t>::max()); }

CLI::Validator NumberIn(double least, double most) {
  const bool bounded = std::isfinite(most);
  const std::string expected = bounded ? absl::StrCat("a number from ", least, " to ", most)
                                       : absl::StrCat("a number of at least ", least);
  return CLI::Validator(
      [least, most, expected](std::string& value) -> std::string {
        double number = 0;
        const bool good = absl::SimpleAtod(value, &number) && std::isfinite(number) &&
                          number >= least && number <= most;
        return good ? "" : Bad(value, expected);
      },
      bounded ? absl::StrCat("in [", least, " - ", most, "]") : "");
}

CLI::Validator NotNegative() { return NumberIn(0, std::numeric_limits<double>::infinity()); }

CLI::Validator Seed() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        uint64_t number = 0;
        return absl::SimpleAtoi(value, &number) ? "" : Bad(value, "an integer from 0 to 2^64 - 1");
      },
      "");
}

CLI::Validator OneOf(std::vector<std::string> names) {
  const std::string shown = absl::StrCat("{", absl::StrJoin(names, ","), "}");
  return CLI::Validator(
      [names = std::move(names)](std::string& value) -> std::string {
        for (const std::string& name : names) {
          if (name == value) return "";
        }
        return absl::StrCat(Bad(value, absl::StrJoin(names, ", ")), DidYouMean(value, names));
      },
      shown);
}

CLI::Validator Given(const std::string& expected) {
  return CLI::Validator(
      [expected](std::string& value) -> std::string {
        return value.empty() ? Bad(value, expected) : "";
      },
      "");
}

CLI::Validator GroupSize(bool whole_tensor) {
  return CLI::Validator(
      [whole_tensor](std::string& value) -> std::string {
        if (value == "channel") value = "-1";
        if (value == "tensor" && whole_tensor) value = "-2";
        int64_t size = 0;
        const bool good = absl::SimpleAtoi(value, &size) && size != 0 &&
                          size >= (whole_tensor ? -2 : -1) && size <= kMaxGroupSize;
        if (good) return "";
        return Bad(value, whole_tensor
                              ? "an integer from 1 on, -1 or channel (all in_features), or -2 or "
                                "tensor (the whole weight)"
                              : "an integer from 1 on, or -1 or channel (all in_features)");
      },
      "");
}

CLI::Validator Bytes() { return WithUnit(ParseBytes, kBytesExpected, "[KiB|MiB|GiB|TiB]"); }

CLI::Validator Seconds() { return WithUnit(ParseSeconds, kSecondsExpected, "[ms|s|m|h|d]"); }

CLI::Validator Address() {
  return CLI::Validator(
      [](std::string& value) -> std::string {
        auto address = ServerAddress(value);
        if (!address.ok()) return std::string(address.status().message());
        value = *std::move(address);
        return "";
      },
      "");
}

}  // namespace salient::client
