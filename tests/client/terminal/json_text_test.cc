#include "client/terminal/json_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/config/json.h"

namespace salient::client {
namespace {

TEST(JsonTextTest, FieldsKeepTheirOrderAndTypes) {
  const std::string text = JsonObject()
                               .AddString("z", "quote \" and newline \n")
                               .AddInteger("a", -7)
                               .AddBool("b", true)
                               .AddJson("c", JsonArray({"1", "2"}))
                               .Text();
  EXPECT_EQ(text, R"({"z": "quote \" and newline \n", "a": -7, "b": true, "c": [1, 2]})");
}

TEST(JsonTextTest, NumbersReadBackAsTheSameDouble) {
  for (const double value : {0.1, 1e-300, 123456789.123, -0.0, 1e22}) {
    const std::string text = JsonObject().AddNumber("x", value).Text();
    const auto parsed = ParseJson("test", text);
    ASSERT_TRUE(parsed.ok()) << parsed.status() << " " << text;
    EXPECT_EQ(parsed->Find("x")->AsDouble(), value) << text;
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
