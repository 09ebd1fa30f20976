#include "core/config/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "core/checkpoint/checkpoint.h"
#include "core/config/json.h"
#include "tests/support/source_directory.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

bool IsAscii(const std::string& text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isascii(c); });
}

// Every pattern of tests/golden/name_patterns.json, which says what Python's re.match does.
TEST(NamePatternTest, MatchesWhatPythonMatches) {
  const auto text =
      ReadTextFile(testing::SourceDirectory() + "/tests/golden/name_patterns.json", 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  const auto golden = ParseJson("name_patterns.json", *text);
  ASSERT_TRUE(golden.ok()) << golden.status();
  const JsonValue::Array& names = *golden->Find("names")->AsArray();
  int64_t decided = 0;
  for (const JsonValue& row : *golden->Find("patterns")->AsArray()) {
    const std::string& text_of_pattern = *row.Find("pattern")->AsString();
    const std::string* matches = row.Find("matches")->AsString();
    const bool ascii_alone = *row.Find("ascii")->AsBool();
    const auto pattern = NamePattern::Parse(text_of_pattern);
    EXPECT_EQ(pattern.ok(), matches != nullptr) << text_of_pattern << ": " << pattern.status();
    if (!pattern.ok() || matches == nullptr) continue;
    for (size_t i = 0; i < names.size(); ++i) {
      const std::string& name = *names[i].AsString();
      if (ascii_alone && !IsAscii(name)) continue;
      EXPECT_EQ(pattern->MatchesStart(name), (*matches)[i] == '1')
          << text_of_pattern << " and " << name;
      ++decided;
    }
  }
  EXPECT_GT(decided, 20000);
}

TEST(NamePatternTest, WhatIsNotReadIsUnimplementedAndWhatIsWrongIsInvalid) {
  const auto expect = [](const std::string& pattern, absl::StatusCode code, const char* what) {
    const absl::Status status = NamePattern::Parse(pattern).status();
    EXPECT_EQ(status.code(), code) << pattern << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what)) << pattern;
  };
  constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  expect("(?!a)b", kUnimplemented, "look-ahead at byte 0");
  expect(".*(?=a)", kUnimplemented, "look-ahead at byte 2");
  expect("a(?<=a)", kUnimplemented, "look-behind at byte 1");
  expect("a(?<!a)", kUnimplemented, "look-behind at byte 1");
  expect(R"((a)\1)", kUnimplemented, "the escape \\1 at byte 3");
  expect("(?P<n>a)(?P=n)", kUnimplemented, "a reference to a group at byte 8");
  expect("(a)?(?(1)b|c)", kUnimplemented, "a condition at byte 4");
  expect("(?>a)", kUnimplemented, "an atomic group at byte 0");
  expect("a*+b", kUnimplemented, "a repetition that gives nothing back at byte 2");
  expect("a{2}+b", kUnimplemented, "a repetition that gives nothing back at byte 4");
  expect("(?#why)a", kUnimplemented, "a comment at byte 0");
  expect("(?x)a b", kUnimplemented, "a group or flag of this kind at byte 0");
  expect(R"(a\x41)", kUnimplemented, "the escape \\x at byte 1");
  expect("(?i)k\xc3\xa9", kUnimplemented, "beyond ASCII where case is ignored at byte 5");
  expect("a\\", kInvalid, "\"\\\" and nothing at byte 1");
  expect("a|^*", kInvalid, "nothing to repeat at byte 3");
  expect(R"([\d-a])", kInvalid, "a range from a class at byte 3");
  expect("a(?i)b", kInvalid, "a flag for all that is not its beginning at byte 1");
  expect("(?P<a>a)(?P<a>a)", kInvalid, "a bad or second name of a group at byte 8");
  expect("*a", kInvalid, "no argument for repetition operator: *");
  expect("a**", kInvalid, "bad repetition operator: **");
  expect("(a", kInvalid, "missing ): (a");
  expect("a)b", kInvalid, "unexpected ): a)b");
  expect("[ab", kInvalid, "missing ]: [ab");
  expect("[z-a]", kInvalid, "invalid character class range: z-a");
  expect("a{3,2}", kInvalid, "{3,2}");
  expect("a{1001}", kInvalid, "a count above 1000 at byte 1");
  expect("a{2,99999999999999999999}", kInvalid, "a count above 1000 at byte 1");
  expect("a\xff", kInvalid, "UTF-8");
}

// Without bounds these take memory or time that no module name is worth.
TEST(NamePatternTest, HostilePatternsEndSoon) {
  const std::string name(500, 'a');
  for (const char* pattern : {"(.*)*x", "(a|a)*b", "(a|aa)+$", "((a*)*)*b", "(a?){500}a{500}x"}) {
    const auto compiled = NamePattern::Parse(pattern);
    ASSERT_TRUE(compiled.ok()) << pattern << ": " << compiled.status();
    EXPECT_EQ(compiled->MatchesStart(name), std::string(pattern) == "(a|aa)+$") << pattern;
    EXPECT_LE(compiled->steps(), 16384);
  }
  for (const std::string& pattern :
       {std::string("(a{1000}){1000}"), std::string("((a{99}){99}){99}"), std::string(1 << 20, 'a'),
        std::string(16000, '('), std::string(7000, '(') + std::string(7000, ')') + "*)",
        std::string("[^a]{1000}[^b]{1000}[^c]{1000}[^d]{1000}"),
        std::string("a") + std::string(100000, '|')}) {
    const absl::Status status = NamePattern::Parse(pattern).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << pattern.substr(0, 40);
    EXPECT_LT(status.message().size(), 200);
  }
}

}  // namespace
}  // namespace salient
