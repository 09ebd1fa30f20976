#include "core/config/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/text/quote.h"

namespace salient {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string JsonErrorOf(absl::string_view text, const JsonLimits& limits = {}) {
  const auto value = ParseJson("config.json", text, limits);
  if (value.ok()) return "";
  EXPECT_EQ(value.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(value.status().message());
}

TEST(JsonTest, ReadsEveryType) {
  const auto value = ParseJson(
      "x", R"( {"a": [null, true, false, 1, -2, 2.5], "b": {"c": "\u00e9\n"}, "d": {}, "e": []} )");
  ASSERT_TRUE(value.ok()) << value.status();
  const JsonValue::Array& a = *value->Find("a")->AsArray();
  EXPECT_TRUE(a[0].IsNull());
  EXPECT_TRUE(*a[1].AsBool());
  EXPECT_FALSE(*a[2].AsBool());
  EXPECT_EQ(a[3].AsInt64(), 1);
  EXPECT_EQ(a[4].AsInt64(), -2);
  EXPECT_EQ(a[4].AsUint64(), nullptr);
  EXPECT_EQ(a[5].AsDouble(), 2.5);
  EXPECT_EQ(a[5].AsInt64(), std::nullopt);
  EXPECT_EQ(*value->Find("b")->Find("c")->AsString(), "\xC3\xA9\n");
  EXPECT_TRUE(value->Find("d")->AsObject()->empty());
  EXPECT_TRUE(value->Find("e")->AsArray()->empty());
  EXPECT_EQ(value->Find("f"), nullptr);
  EXPECT_EQ(a[0].Find("a"), nullptr);
}

TEST(JsonTest, KeepsIntegersExactAndTheFormOfNumbers) {
  const auto value =
      ParseJson("x",
                "[9223372036854775807, 18446744073709551615, -9223372036854775808, 2.0, 2e0, -0, "
                "18446744073709551616]");
  ASSERT_TRUE(value.ok()) << value.status();
  const JsonValue::Array& a = *value->AsArray();
  EXPECT_EQ(a[0].AsInt64(), INT64_MAX);
  ASSERT_NE(a[1].AsUint64(), nullptr);
  EXPECT_EQ(*a[1].AsUint64(), UINT64_MAX);
  EXPECT_EQ(a[1].AsInt64(), std::nullopt);
  EXPECT_EQ(a[2].AsInt64(), INT64_MIN);
  for (const size_t i : {3, 4, 6}) {
    EXPECT_EQ(a[i].AsInt64(), std::nullopt) << i;
    EXPECT_TRUE(a[i].AsDouble().has_value()) << i;
  }
  EXPECT_EQ(a[5].AsInt64(), 0);
  EXPECT_EQ(a[5].AsUint64(), nullptr);
  EXPECT_EQ(a[3].Describe(), "2.00000000000000");
  EXPECT_EQ(a[5].Describe(), "-0");
}

TEST(JsonTest, MalformedTextIsAnErrorThatNamesTheSource) {
  const std::vector<std::string> texts = {"",
                                          " ",
                                          "{",
                                          "[1,]",
                                          "{\"a\":1,}",
                                          "{a:1}",
                                          "'a'",
                                          "nul",
                                          "01",
                                          "1.",
                                          "+1",
                                          "NaN",
                                          "1e999",
                                          "[1] x",
                                          "// c\n1",
                                          "\"\\ud800\"",
                                          "\"\xff\"",
                                          "\"\xc0\x80\"",
                                          "\"\n\"",
                                          "\xEF\xBB\xBF{}",
                                          std::string("{}\0", 3),
                                          std::string("[1\0]", 4)};
  for (const std::string& text : texts)
    EXPECT_THAT(JsonErrorOf(text), HasSubstr("config.json")) << text;
}

TEST(JsonTest, DuplicateKeysAreRejectedAnywhereUnlessKept) {
  EXPECT_THAT(JsonErrorOf(R"([{"x": {"key": 1, "b": 2, "key": 1}}])"), HasSubstr("\"key\""));
  // They are two spellings of one name.
  EXPECT_THAT(JsonErrorOf(R"({"a": 1, "\u0061": 2})"), HasSubstr("\"a\""));
  JsonLimits keep;
  keep.reject_duplicate_keys = false;
  const auto value = ParseJson("x", R"({"key": 1, "key": 2})", keep);
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->AsObject()->size(), 2u);
  EXPECT_EQ(value->Find("key")->AsInt64(), 2);
}

TEST(JsonTest, DepthAndValuesAreBounded) {
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_EQ(JsonErrorOf(nested(64)), "");
  EXPECT_THAT(JsonErrorOf(nested(65)), HasSubstr("64 levels"));
  EXPECT_THAT(JsonErrorOf(std::string(1'000'000, '[')), HasSubstr("64 levels"));
  JsonLimits three;
  three.max_values = 3;
  EXPECT_EQ(JsonErrorOf("[1,2]", three), "");
  EXPECT_THAT(JsonErrorOf("[1,2,3]", three), HasSubstr("3 values"));
  EXPECT_THAT(JsonErrorOf("[[],[],[]]", three), HasSubstr("3 values"));
}

TEST(JsonTest, AVisitorIsToldEachScalarAndWhereItLies) {
  std::vector<std::string> told;
  const auto visit = [&](absl::Span<const std::string> path, const JsonValue& value) {
    told.push_back(absl::StrCat(absl::StrJoin(path, "/"), "=", value.Describe()));
  };
  const absl::Status status =
      VisitJson("x", R"({"a": {"b": 1, "c": [true, {"d": "e"}]}, "f": [], "a": null})", {}, visit);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(told, ElementsAre("a/b=1", "a/c/=true", "a/c//d=\"e\"", "a=null"));
  told.clear();
  EXPECT_TRUE(VisitJson("x", "7", {}, visit).ok());
  EXPECT_THAT(told, ElementsAre("=7"));
  for (const char* const bad : {"[[1]]", "[1, 2, 3]", "{\"a\": 1"}) {
    EXPECT_FALSE(VisitJson("x", bad, {.max_depth = 1, .max_values = 3}, visit).ok()) << bad;
  }
}

TEST(JsonTest, ErrorsStayShortAndPrintable) {
  const std::string error = JsonErrorOf("{\"a\": \"" + std::string(1'000'000, 'x') + "\x01\xff");
  EXPECT_LT(error.size(), 500u);
  for (const char c : error) EXPECT_TRUE(c >= 0x20 && c < 0x7F) << static_cast<int>(c);
}

TEST(JsonTest, QuotedTextReadsBack) {
  std::string text;
  for (char c = 1; c < 0x7F; ++c) text += c;
  text += "\xC3\xA9\xF0\x9F\x98\x80";
  const auto value = ParseJson("x", JsonQuote(text));
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(*value->AsString(), text);
  EXPECT_EQ(JsonQuote("\xED\xA0\x80 \xED\x9F\xBF"), "\"\\ud800 \xED\x9F\xBF\"");
  EXPECT_EQ(JsonQuote("a\"\\/\x1f\t\xC3\xA9"), "\"a\\\"\\\\/\\u001f\\t\xC3\xA9\"");
}

// Property (json.h): parsing the text gives the value again.
TEST(JsonTest, TextReadsBackAsTheSameValue) {
  const std::string document =
      "{\n"
      "  \"numbers\": [\n"
      "    0,\n    -0,\n    -7,\n    18446744073709551615,\n    1e-05,\n    0.1,\n    10000.0,\n"
      "    1e+20,\n    -1.5,\n    5e-324,\n    1.7976931348623157e+308\n"
      "  ],\n"
      "  \"others\": {\n"
      "    \"z\": null,\n    \"a\": true,\n    \"\\\"\": \"\xC3\xA9\\n\",\n    \"m\": {},\n    "
      "\"b\": []\n"
      "  }\n"
      "}\n";
  const auto value = ParseJson("x", document);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(JsonText(*value), document);
  // They are other spellings of the same doubles.
  const auto spelt = ParseJson("x", "[0.00001, 1E4, 2e0, 100000000000000000000]");
  ASSERT_TRUE(spelt.ok()) << spelt.status();
  const auto again = ParseJson("x", JsonText(*spelt));
  ASSERT_TRUE(again.ok()) << again.status();
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ((*again->AsArray())[i].AsDouble(), (*spelt->AsArray())[i].AsDouble());
    EXPECT_EQ((*again->AsArray())[i].AsInt64(), std::nullopt) << i;
  }
}

std::string ManyNumbers() {
  std::string text = "[0";
  for (int i = 1; i < 100'000; ++i) text += ",1";
  return text + "]";
}

TEST(JsonTest, LayoutsDifferInSpaceAlone) {
  const std::string dense = R"({"a":[1,-2.5,"b, c"],"d":{"e":null,"f":true},"g":{},"h":[]})";
  const auto value = ParseJson("x", dense);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(JsonText(*value, JsonLayout::kDense), dense);
  EXPECT_EQ(JsonText(*value, JsonLayout::kOneLine),
            R"({"a": [1, -2.5, "b, c"], "d": {"e": null, "f": true}, "g": {}, "h": []})");
  EXPECT_EQ(JsonText(*value, JsonLayout::kLines), JsonText(*value));
}

TEST(JsonTest, AnIntegerHasTheFormThatItIsReadIn) {
  EXPECT_EQ(*JsonValue::Integer(3).AsUint64(), 3u);
  EXPECT_EQ(JsonValue::Integer(-3).AsUint64(), nullptr);
  EXPECT_EQ(*JsonValue::Integer(-3).AsInt64(), -3);
}

TEST(JsonTest, ALongTextCanBeInterrupted) {
  const std::string text = ManyNumbers();
  int asked = 0;
  const auto third_time = [&asked] {
    return ++asked < 3 ? absl::OkStatus() : absl::CancelledError("nobody waits");
  };
  {
    const JsonInterrupt interrupt(third_time);
    EXPECT_EQ(ParseJson("x", text).status(), absl::CancelledError("nobody waits"));
    EXPECT_EQ(asked, 3);
    EXPECT_TRUE(ParseJson("x", "[1, 2]").ok()) << "a short one is not worth asking";
    {
      const auto go_on = [] { return absl::OkStatus(); };
      const JsonInterrupt inner(go_on);
      EXPECT_TRUE(ParseJson("x", text).ok());
    }
    EXPECT_FALSE(ParseJson("x", text).ok()) << "the outer one is asked again";
    EXPECT_EQ(asked, 4);
  }
  EXPECT_TRUE(ParseJson("x", text).ok());
  EXPECT_EQ(asked, 4);
}

JsonLimits LikePython() {
  JsonLimits limits;
  limits.like_python = true;
  return limits;
}

// Python's json.loads reads the first as what json.dumps writes as the second.
TEST(JsonTest, WhatPythonTakesComesBackAsPythonWritesIt) {
  const std::pair<const char*, const char*> texts[] = {
      {"NaN", "NaN"},
      {"[NaN,null,-Infinity, Infinity ,null]",
       "[\n  NaN,\n  null,\n  -Infinity,\n  Infinity,\n  null\n]"},
      {R"({"NaN":"null NaN \" Infinity","a":NaN,"b":-1,"c":null})",
       "{\n  \"NaN\": \"null NaN \\\" Infinity\",\n  \"a\": NaN,\n  \"b\": -1,\n  \"c\": null\n}"},
      {R"(["\ud800","\uDBFF\ufffd\udc00","\ud83d\ude00"])",
       "[\n  \"\\ud800\",\n  \"\\udbff\xEF\xBF\xBD\\udc00\",\n  \"\xF0\x9F\x98\x80\"\n]"},
      {"{\"\xEF\xBF\xBD\\udc00\":\"\\\\ud800\"}", "{\n  \"\xEF\xBF\xBD\\udc00\": \"\\\\ud800\"\n}"},
  };
  for (const auto& [text, written] : texts) {
    const auto value = ParseJson("x", text, LikePython());
    ASSERT_TRUE(value.ok()) << text << value.status();
    EXPECT_EQ(JsonText(*value), absl::StrCat(written, "\n"));
    const auto again = ParseJson("x", written, LikePython());
    ASSERT_TRUE(again.ok()) << written << again.status();
    EXPECT_EQ(JsonText(*again), absl::StrCat(written, "\n"));
  }
}

TEST(JsonTest, WhatPythonRefusesStaysRefused) {
  for (const char* text : {"nan", "-NaN", "+Infinity", "Infinit", "NaN5", "nullNaN", "[NaN", "'a'",
                           R"("\ud80")", R"("\ud800)", R"(["\")", "-", "-I"}) {
    EXPECT_FALSE(ParseJson("x", text, LikePython()).ok()) << text;
  }
  for (const char* text : {"NaN", "[-Infinity]", R"("\ud800")", R"("\udc00\ud800")"}) {
    EXPECT_FALSE(ParseJson("x", text).ok()) << text;
  }
}

}  // namespace
}  // namespace salient
