#include "core/text/utf8.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

// This is a row of RFC 3629's table: what the first byte of a character may be, what the second
// may be after it, and how many there are. All others are 0x80 to 0xBF.
struct ByteRule {
  uint8_t first_min, first_max;
  uint8_t second_min, second_max;
  size_t bytes;
};

// Surrogates (ED A0 and above), and what a shorter form exists for, are left out.
constexpr ByteRule kByteRules[] = {
    {0x00, 0x7F, 0x00, 0x00, 1}, {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
    {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
    {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
};

// Returns the length of the character that `text` begins with; 0 if it begins with none.
size_t CharacterBytes(absl::string_view text) {
  const auto within = [&text](size_t at, uint8_t min, uint8_t max) {
    const auto byte = static_cast<uint8_t>(text[at]);
    return min <= byte && byte <= max;
  };
  for (const ByteRule& rule : kByteRules) {
    if (!within(0, rule.first_min, rule.first_max)) continue;
    if (text.size() < rule.bytes) return 0;
    if (rule.bytes > 1 && !within(1, rule.second_min, rule.second_max)) return 0;
    for (size_t at = 2; at < rule.bytes; ++at) {
      if (!within(at, 0x80, 0xBF)) return 0;
    }
    return rule.bytes;
  }
  return 0;
}

}  // namespace

bool IsUtf8(absl::string_view text) {
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

std::string EscapeNonUtf8(absl::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    if (const size_t bytes = CharacterBytes(text); bytes > 0) {
      escaped.append(text.data(), bytes);
      text.remove_prefix(bytes);
      continue;
    }
    absl::StrAppend(&escaped, "\\x",
                    absl::Hex(static_cast<uint8_t>(text.front()), absl::kZeroPad2));
    text.remove_prefix(1);
  }
  return escaped;
}

}  // namespace salient
