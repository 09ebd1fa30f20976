#include "core/text/measure.h"

#include <gtest/gtest.h>

namespace salient {
namespace {

TEST(MeasureTest, BytesHaveUnitsOf1024) {
  EXPECT_EQ(ParseBytes("0"), 0);
  EXPECT_EQ(ParseBytes("100000001"), 100'000'001);
  EXPECT_EQ(ParseBytes("7b"), 7);
  for (const char* text : {"3K", "3k", "3KB", "3Ki", "3KiB", "3 kib", " 3  KiB "}) {
    EXPECT_EQ(ParseBytes(text), 3 << 10) << text;
  }
  EXPECT_EQ(ParseBytes("512MiB"), 512 << 20);
  EXPECT_EQ(ParseBytes("8G"), int64_t{8} << 30);
  EXPECT_EQ(ParseBytes("1 tib"), int64_t{1} << 40);
  EXPECT_EQ(ParseBytes("1PB"), int64_t{1} << 50);
  EXPECT_EQ(ParseBytes("7E"), int64_t{7} << 60);
  EXPECT_EQ(ParseBytes("9223372036854775807"), 0x7FFFFFFFFFFFFFFF);
}

TEST(MeasureTest, WhatIsNoNumberOfBytesIsRefused) {
  for (const char* text : {"", " ", "G", "GiB", "5 apples", "8 parsecs", "1.5G", "-1", "-1G", "8E",
                           "9223372036854775808", "nan", "inf", "1e3", "0x10", "3KiBs", "G3"}) {
    EXPECT_FALSE(ParseBytes(text).has_value()) << text;
  }
}

TEST(MeasureTest, SecondsHaveUnitsOfTime) {
  EXPECT_EQ(ParseSeconds("0"), 0.0);
  EXPECT_EQ(ParseSeconds("0.25"), 0.25);
  EXPECT_EQ(ParseSeconds("1e3"), 1000.0);
  EXPECT_EQ(ParseSeconds("250ms"), 0.25);
  EXPECT_EQ(ParseSeconds("30s"), 30.0);
  for (const char* text : {"5m", "5M", "5 min", "5min"}) EXPECT_EQ(ParseSeconds(text), 300.0);
  EXPECT_EQ(ParseSeconds("1.5h"), 5400.0);
  EXPECT_EQ(ParseSeconds("2d"), 172800.0);
}

TEST(MeasureTest, WhatIsNoTimeIsRefused) {
  for (const char* text :
       {"", "m", "-1", "-1s", "nan", "inf", "1e400", "5 parsecs", "1s1", "5 w"}) {
    EXPECT_FALSE(ParseSeconds(text).has_value()) << text;
  }
}

TEST(MeasureTest, ANumberIsReadAgainAsItWas) {
  EXPECT_EQ(NumberText(int64_t{0x7FFFFFFFFFFFFFFF}), "9223372036854775807");
  EXPECT_EQ(NumberText(300.0), "300");
  for (const double seconds : {1234567.5, 0.001, 1.0 / 3}) {
    EXPECT_EQ(ParseSeconds(NumberText(seconds)), seconds);
  }
}

}  // namespace
}  // namespace salient
