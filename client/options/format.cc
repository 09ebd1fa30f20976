#include "client/options/format.h"

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/tensor/format_bounds.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

// Holds what follows the colon. 0: not given.
struct Settings {
  int32_t bits = 0;
  int64_t group_size = 0;
  bool skip = false;
};

// nullopt for what is no such list, or says a thing twice. SimpleAtoi alone would allow more.
std::optional<Settings> ParseSettings(absl::string_view text) {
  if (text.find_first_of(" \t\n\v\f\r+") != text.npos) return std::nullopt;
  Settings settings;
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    if (item == "skip" && !settings.skip) {
      settings.skip = true;
    } else if (settings.bits == 0 && absl::ConsumePrefix(&item, "bits=")) {
      if (!absl::SimpleAtoi(item, &settings.bits) || !IsCodeWidth(settings.bits)) {
        return std::nullopt;
      }
    } else if (settings.group_size == 0 && absl::ConsumePrefix(&item, "group_size=")) {
      if (!absl::SimpleAtoi(item, &settings.group_size) || settings.group_size == 0 ||
          settings.group_size < -2) {
        return std::nullopt;
      }
    } else {
      return std::nullopt;
    }
  }
  return settings;
}

// Messages say so what `bits` may be.
const std::string& BitsSetting() {
  static const std::string setting = absl::StrCat("bits=", kLeastBits, "..", kMostBits);
  return setting;
}

absl::Status BadFlag(absl::string_view flag, const std::string& value, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " ", QuoteForMessage(value), "; expected ", expected));
}

}  // namespace

absl::StatusOr<v1::WeightFormat> ParseFormat(const MethodOptions& options,
                                             const std::string& flag) {
  const size_t colon = flag.find(':');
  auto format = ToWeightFormat(options, flag.substr(0, colon));
  if (!format.ok() || colon == flag.npos) return format;
  const std::optional<Settings> settings = ParseSettings(flag.substr(colon + 1));
  if (!settings.has_value() || settings->skip) {
    return BadFlag(
        "format", flag,
        absl::StrCat("NAME, or NAME:", BitsSetting(), ",group_size=N with one of these or both"));
  }
  if (settings->bits != 0) format->set_bits(settings->bits);
  if (settings->group_size != 0) format->set_group_size(settings->group_size);
  return format;
}

absl::StatusOr<v1::ModuleOverride> ParseOverride(const std::string& flag) {
  const size_t colon = flag.rfind(':');
  const std::optional<Settings> settings =
      colon == flag.npos || colon == 0 ? std::nullopt : ParseSettings(flag.substr(colon + 1));
  if (!settings.has_value() ||
      (settings->skip && (settings->bits != 0 || settings->group_size != 0))) {
    return BadFlag(
        "override", flag,
        absl::StrCat("MODULE:", BitsSetting(),
                     ", MODULE:group_size=N, both with a comma between, or MODULE:skip"));
  }
  v1::ModuleOverride override;
  override.set_module(flag.substr(0, colon));
  override.set_bits(settings->bits);
  override.set_group_size(settings->group_size);
  override.set_skip(settings->skip);
  return override;
}

}  // namespace salient::client
