#include "core/config/python_json.h"

#include <limits>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"

namespace salient {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // It is U+FFFD.

bool IsHighSurrogate(uint32_t unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool IsLowSurrogate(uint32_t unit) { return unit >= 0xDC00 && unit < 0xE000; }

// Returns what the escape \\uXXXX at the beginning of `text` says, nullopt if there is none.
std::optional<uint32_t> EscapedUnit(absl::string_view text) {
  uint32_t unit = 0;
  if (!absl::StartsWith(text, "\\u") || text.size() < 6) return std::nullopt;
  for (const char c : text.substr(2, 4)) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return std::nullopt;
    const char digit = absl::ascii_tolower(static_cast<unsigned char>(c));
    unit = unit * 16 + static_cast<uint32_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
  return unit;
}

absl::string_view Word(absl::string_view text) {
  size_t end = 0;
  while (end < text.size() && absl::ascii_isalpha(static_cast<unsigned char>(text[end]))) ++end;
  return text.substr(0, end);
}

std::string Bytes(uint16_t surrogate) {
  return {'\xED', static_cast<char>(0x80 | ((surrogate >> 6) & 0x3F)),
          static_cast<char>(0x80 | (surrogate & 0x3F))};
}

}  // namespace

std::optional<double> PythonMarks::NextNull() {
  const int64_t null = nulls_++;
  if (numbers_.empty() || numbers_.front().first != null) return std::nullopt;
  const double number = numbers_.front().second;
  numbers_.pop_front();
  return number;
}

void PythonMarks::Restore(std::string& text) {
  for (size_t at = text.find(kReplacement); at != std::string::npos;
       at = text.find(kReplacement, at + kReplacement.size())) {
    const int64_t replacement = replacements_++;
    if (surrogates_.empty() || surrogates_.front().first != replacement) continue;
    text.replace(at, kReplacement.size(), Bytes(surrogates_.front().second));
    surrogates_.pop_front();
  }
}

std::pair<std::string, PythonMarks> MarkPython(absl::string_view text) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::string json;
  json.reserve(text.size());
  PythonMarks marks;
  int64_t nulls = 0;
  int64_t replacements = 0;
  bool in_string = false;
  while (!text.empty()) {
    size_t taken = 1;
    absl::string_view written = text.substr(0, 1);
    if (!in_string) {
      const bool minus = text[0] == '-';
      const absl::string_view word = Word(text.substr(minus ? 1 : 0));
      const bool infinity = word == "Infinity";
      if (infinity || (word == "NaN" && !minus)) {
        const double number =
            infinity ? (minus ? -kInfinity : kInfinity) : std::numeric_limits<double>::quiet_NaN();
        marks.numbers_.emplace_back(nulls++, number);
        taken = word.size() + (minus ? 1 : 0);
        written = "null";
      } else if (!word.empty() && !minus) {
        if (word == "null") ++nulls;
        written = word;
        taken = word.size();
      }
      in_string = text[0] == '"';
    } else if (const std::optional<uint32_t> unit = EscapedUnit(text)) {
      const std::optional<uint32_t> next = EscapedUnit(text.substr(6));
      taken = IsHighSurrogate(*unit) && next.has_value() && IsLowSurrogate(*next) ? 12 : 6;
      written = text.substr(0, taken);
      if (taken == 6 && (IsHighSurrogate(*unit) || IsLowSurrogate(*unit))) {
        marks.surrogates_.emplace_back(replacements++, static_cast<uint16_t>(*unit));
        written = "\\ufffd";
      } else if (*unit == 0xFFFD) {
        ++replacements;
      }
    } else if (text[0] == '\\' && text.size() > 1) {
      taken = 2;
      written = text.substr(0, 2);
    } else if (absl::StartsWith(text,
                                absl::string_view(kReplacement.data(), kReplacement.size()))) {
      ++replacements;
      taken = kReplacement.size();
      written = text.substr(0, taken);
    } else {
      in_string = text[0] != '"';
    }
    json.append(written.data(), written.size());
    text.remove_prefix(taken);
  }
  return {std::move(json), std::move(marks)};
}

std::optional<uint16_t> SurrogateAt(absl::string_view text, size_t position) {
  if (text.size() < 3 || position > text.size() - 3 || text[position] != '\xED') {
    return std::nullopt;
  }
  const auto second = static_cast<unsigned char>(text[position + 1]);
  const auto third = static_cast<unsigned char>(text[position + 2]);
  if (second < 0xA0 || second > 0xBF || third < 0x80 || third > 0xBF) return std::nullopt;
  return static_cast<uint16_t>(0xD000 | ((second & 0x3F) << 6) | (third & 0x3F));
}

}  // namespace salient
