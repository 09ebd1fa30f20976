#include "client/terminal/json_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/json.h"

namespace salient::client {
namespace {

TEST(JsonTextTest, FieldsKeepTheirOrderAndTypes) {
  const std::string text = JsonObject()
                               .AddString("z", "quote \" and newline \n")
                               .AddInteger("a", -7)
                               .AddBool("b", true)
                               .AddArray("c", {JsonObject().AddInteger("d", 1), JsonObject()})
                               .AddStrings("e", std::vector<std::string>{"x", "y"})
                               .Text();
  EXPECT_EQ(
      text,
      R"({"z": "quote \" and newline \n", "a": -7, "b": true, "c": [{"d": 1}, {}], "e": ["x", "y"]})");
}

TEST(JsonTextTest, NumbersReadBackAsTheSameDouble) {
  for (const double value : {0.1, 1e-300, 123456789.123, -0.0, 1e22}) {
    const std::string text = JsonObject().AddNumber("x", value).Text();
    const auto parsed = ParseJson("test", text);
    ASSERT_TRUE(parsed.ok()) << parsed.status() << " " << text;
    EXPECT_EQ(parsed->Find("x")->AsDouble(), value) << text;
  }
}

TEST(JsonTextTest, NumbersAreAsShortAsTheyCanBe) {
  const std::pair<double, const char*> texts[] = {
      {2.0, "2"},           {0.0, "0"},   {-0.0, "-0"},    {-3.0, "-3"},   {1e5, "1e+05"},
      {123456.0, "123456"}, {2.5, "2.5"}, {1e22, "1e+22"}, {1e-7, "1e-07"}};
  for (const auto& [value, text] : texts) {
    EXPECT_EQ(JsonObject().AddNumber("x", value).Text(), absl::StrCat("{\"x\": ", text, "}"));
  }
}

TEST(JsonTextTest, WhatJsonHasNoNumberForIsNull) {
  EXPECT_EQ(JsonObject().AddNumber("x", std::nan("")).Text(), R"({"x": null})");
  EXPECT_EQ(JsonObject().AddNumber("x", std::numeric_limits<double>::infinity()).Text(),
            R"({"x": null})");
}

TEST(JsonTextTest, EmptyObjectIsValid) { EXPECT_EQ(JsonObject().Text(), "{}"); }

}  // namespace
}  // namespace salient::client
