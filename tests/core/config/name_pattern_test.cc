#include "core/config/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace salient {
namespace {

using ::testing::HasSubstr;
using Names = std::vector<std::string>;

struct Example {
  const char* pattern;
  Names matched;  // Python's re.match says so.
  Names others;
};

TEST(NamePatternTest, MatchesWhatPythonMatches) {
  const Example examples[] = {
      {"", {"", "a"}, {}},
      {"lm_head", {"lm_head", "lm_head.x"}, {"model.lm_head", "lm_hea"}},
      {".*lm_head", {"lm_head", "model.lm_head"}, {"model.norm"}},
      {".*mlp.gate$", {"model.layers.3.mlp.gate"}, {"model.layers.3.mlp.gate_proj"}},
      {"^model\\.layers\\.0\\.",
       {"model.layers.0.mlp"},
       {"model.layers.10.mlp", "xmodel.layers.0."}},
      {"model.layers.0", {"model.layers.0", "modelXlayersY0"}, {"model.layers"}},
      {R"(.*layers\.(1[0-9]|[2-4])\..*)",
       {"layers.2.x", "a.layers.17.x"},
       {"layers.7.x", "layers.20.x"}},
      {R"(.*\.layers\.\d+\.self_attn\.(?:q|k|v)_proj)",
       {"model.layers.31.self_attn.k_proj"},
       {"model.layers.31.self_attn.o_proj", "model.layers.x.self_attn.k_proj"}},
      {"a?b", {"b", "ab"}, {"aab", "a"}},
      {"(a|b|)c", {"ac", "bc", "c"}, {"abc"}},
      {"a{2}$", {"aa"}, {"a", "aaa"}},
      {"a{1,3}$", {"a", "aa", "aaa"}, {"", "aaaa"}},
      {"a{2,}$", {"aa", "aaaaaaa"}, {"a"}},
      {"a{,2}$", {"", "aa"}, {"aaa"}},
      {"a{0}b", {"b"}, {"ab"}},
      {"a{,}$", {"", "aaaa"}, {"b"}},
      {"a{x}", {"a{x}"}, {"a"}},
      {"a{}|{b|{1", {"a{}", "{b", "{1"}, {"", "aa"}},
      {"(ab)+$", {"ab", "abab"}, {"aba", ""}},
      {"(ab){2,3}$", {"abab", "ababab"}, {"ab", "abababab"}},
      {"a*?b", {"b", "aaab"}, {"aa"}},
      {"[a-c_]+$", {"abc", "_"}, {"d", ""}},
      {"[^a-c]$", {"d", "-"}, {"a"}},
      {"[]x-]+$", {"]", "x-"}, {"y"}},
      {R"([\d.]+$)", {"1.2"}, {"a"}},
      {R"(\w+\W\S\s\D$)", {"a1_.x q"}, {"a1_.x 1"}},
      {R"(\[\]\-\\)", {R"([]-\)"}, {"[]"}},
      {"()*a", {"a"}, {"b"}},
      {"(a*)*b", {"aaab", "b"}, {"aaa"}},
      {"(^a|b)*c", {"abc", "bbc", "c"}, {"bac"}},
      {"a|bc|d$", {"a", "axx", "bc", "d"}, {"b", "dd"}},
  };
  for (const Example& example : examples) {
    const auto pattern = NamePattern::Parse(example.pattern);
    ASSERT_TRUE(pattern.ok()) << example.pattern << ": " << pattern.status();
    for (const std::string& name : example.matched) {
      EXPECT_TRUE(pattern->MatchesStart(name)) << example.pattern << " and " << name;
    }
    for (const std::string& name : example.others) {
      EXPECT_FALSE(pattern->MatchesStart(name)) << example.pattern << " and " << name;
    }
  }
}

TEST(NamePatternTest, WhatIsNotReadIsUnimplementedAndWhatIsWrongIsInvalid) {
  const auto expect = [](const std::string& pattern, absl::StatusCode code, const char* what) {
    const absl::Status status = NamePattern::Parse(pattern).status();
    EXPECT_EQ(status.code(), code) << pattern << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what)) << pattern;
  };
  constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  expect("(?!a)b", kUnimplemented,
         "look-around or another group that begins with \"(?\", but \"(?:\", at byte 0");
  expect("(?i)b", kUnimplemented, "\"(?\"");
  expect("a(?<=a)", kUnimplemented, "at byte 1");
  expect(R"((a)\1)", kUnimplemented, "escape at byte 3");
  expect(R"(a\b)", kUnimplemented, "escape at byte 1");
  expect("a\\", kUnimplemented, "escape at byte 1");
  expect("a*+", kUnimplemented, "repeated");
  expect("a*{2}", kUnimplemented, "repeated");
  expect("a{2}{3}", kUnimplemented, "repeated");
  expect("a???", kUnimplemented, "repeated");
  expect("{2}a", kInvalid, "nothing to repeat at byte 0");
  expect("a|^*", kInvalid, "nothing to repeat at byte 3");
  expect("a$?", kInvalid, "nothing to repeat at byte 2");
  expect("*a", kInvalid, "nothing to repeat at byte 0");
  expect("a|+", kInvalid, "nothing to repeat at byte 2");
  expect("(a", kInvalid, "without \")\" at byte 2");
  expect("a)b", kInvalid, "without \"(\" at byte 1");
  expect("[ab", kInvalid, "without \"]\" at byte 3");
  expect("[z-a]", kInvalid, "range");
  expect("[\\d-a]", kInvalid, "range");
  expect("a{3,2}", kInvalid, "count");
  expect("a{1001}", kInvalid, "a count above 1000");
  expect("a{99999999999999999999}", kInvalid, "a count above 1000");
}

// Without bounds these take memory or time that no module name is worth.
TEST(NamePatternTest, HostilePatternsEndSoon) {
  const std::string name(500, 'a');
  for (const char* pattern : {"(.*)*x", "(a|a)*b", "(a|aa)+$", "((a*)*)*b", "(a?){500}a{500}x"}) {
    const auto compiled = NamePattern::Parse(pattern);
    ASSERT_TRUE(compiled.ok()) << pattern << ": " << compiled.status();
    EXPECT_EQ(compiled->MatchesStart(name), std::string(pattern) == "(a|aa)+$") << pattern;
    EXPECT_LE(compiled->steps(), 2048);
  }
  for (const std::string& pattern :
       {std::string(100000, '('), std::string("(a{1000}){1000}"), std::string("((a{99}){99}){99}"),
        std::string(1 << 20, 'a'), std::string("a") + std::string(100000, '|')}) {
    EXPECT_EQ(NamePattern::Parse(pattern).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace salient
