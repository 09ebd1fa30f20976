#include "core/text/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace salient {
namespace {

// Encodes one code point as RFC 3629's section 3 says, surrogates as well.
std::string Encoded(uint32_t point) {
  const auto byte = [](uint32_t bits) { return static_cast<char>(bits); };
  if (point < 0x80) return {byte(point)};
  const char last = byte(0x80 | (point & 0x3F));
  if (point < 0x800) return {byte(0xC0 | point >> 6), last};
  const char third = byte(0x80 | ((point >> 6) & 0x3F));
  if (point < 0x10000) return {byte(0xE0 | point >> 12), third, last};
  return {byte(0xF0 | point >> 18), byte(0x80 | ((point >> 12) & 0x3F)), third, last};
}

TEST(Utf8Test, AllCharactersAreTakenAndNoSurrogate) {
  for (uint32_t point = 0; point < 0x120000; ++point) {
    const bool is_character = point < 0x110000 && (point < 0xD800 || point > 0xDFFF);
    const std::string text = Encoded(point);
    ASSERT_EQ(IsUtf8(text), is_character) << std::hex << point;
    ASSERT_EQ(EscapeNonUtf8(text) == text, is_character) << std::hex << point;
    ASSERT_FALSE(text.size() > 1 && IsUtf8(text.substr(0, text.size() - 1))) << std::hex << point;
  }
}

TEST(Utf8Test, WhatIsNoneIsEscapedByteByByte) {
  struct Case {
    const char* text;
    const char* escaped;
  };
  const Case cases[] = {
      {"", ""},
      {"a\xC3\xA4\n", "a\xC3\xA4\n"},
      {"a\x80z", "a\\x80z"},                                           // no character begins so
      {"\xC3z", "\\xc3z"},                                             // the second half is missing
      {"\xC0\xAF", "\\xc0\\xaf"},                                      // "/" in two bytes
      {"\xE0\x80\xAF", "\\xe0\\x80\\xaf"},                             // in three
      {"\xED\xA0\xBD x", "\\xed\\xa0\\xbd x"},                         // the first half of a pair
      {"\xED\xA0\xBD\xED\xB8\x80", "\\xed\\xa0\\xbd\\xed\\xb8\\x80"},  // both halves apart
      {"\xF5\x80\x80\x80", "\\xf5\\x80\\x80\\x80"},
      {"\xC3\xA4\xC3", "\xC3\xA4\\xc3"},
      {"\xE2\x82\xE2\x82\xAC", "\\xe2\\x82\xE2\x82\xAC"},
  };
  for (const Case& each : cases) {
    EXPECT_EQ(EscapeNonUtf8(each.text), each.escaped);
    EXPECT_EQ(IsUtf8(each.text), EscapeNonUtf8(each.text) == each.text) << each.escaped;
  }
}

}  // namespace
}  // namespace salient
