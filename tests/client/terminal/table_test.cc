#include "client/terminal/table.h"

#include <gtest/gtest.h>

namespace salient::client {
namespace {

TEST(TableTest, ColumnsAlignAndLinesHaveNoTrailingBlanks) {
  Table table({{"group", Table::Align::kLeft}, {"loss"}, {"note", Table::Align::kLeft}});
  table.AddRow({"q", "1.25", ""});
  table.AddRow({"gate_up", "10"});
  EXPECT_EQ(table.Render(),
            "group    loss  note\n"
            "-------  ----  ----\n"
            "q        1.25\n"
            "gate_up    10\n");
}

TEST(TableTest, WidthIsInCharactersNotBytes) {
  Table table({{"a", Table::Align::kLeft}, {"b"}});
  table.AddRow({"\xc3\xa9\xc3\xa9", "1"});
  table.AddRow({"ee", "1"});
  EXPECT_EQ(table.Render(), "a   b\n--  -\n\xc3\xa9\xc3\xa9  1\nee  1\n");
}

TEST(TableTest, BytesHaveThreeDigits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "0.98 KiB");
  EXPECT_EQ(FormatBytes(1536), "1.50 KiB");
  EXPECT_EQ(FormatBytes(int64_t{12} << 20), "12.0 MiB");
  EXPECT_EQ(FormatBytes(int64_t{345} << 30), "345 GiB");
  EXPECT_EQ(FormatBytes(int64_t{5000} << 40), "5000 TiB");
}

TEST(TableTest, CountsHaveThreeDigits) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(950), "950");
  EXPECT_EQ(FormatCount(1250), "1.25 k");
  EXPECT_EQ(FormatCount(3.4e6), "3.40 M");
  EXPECT_EQ(FormatCount(9.999e6), "10.0 M");
}

TEST(TableTest, SecondsAreWhatAPersonPlansWith) {
  EXPECT_EQ(FormatSeconds(0.424), "0.42 s");
  EXPECT_EQ(FormatSeconds(42.4), "42 s");
  EXPECT_EQ(FormatSeconds(59.6), "1 min 0 s");
  EXPECT_EQ(FormatSeconds(200), "3 min 20 s");
  EXPECT_EQ(FormatSeconds(7500), "2 h 5 min");
  EXPECT_EQ(FormatSeconds(-1), "-");
}

}  // namespace
}  // namespace salient::client
