#include "core/text/quote.h"

#include <gtest/gtest.h>

#include <string>

namespace salient {
namespace {

TEST(QuoteForMessageTest, EscapesAllButPrintableAscii) {
  EXPECT_EQ(QuoteForMessage(""), "\"\"");
  EXPECT_EQ(QuoteForMessage("a\nb"), "\"a\\nb\"");
  EXPECT_EQ(QuoteForMessage("\x1b[2J\""), "\"\\x1b[2J\\\"\"");
  EXPECT_EQ(QuoteForMessage(std::string("\0\xff", 2)), "\"\\x00\\xff\"");
}

TEST(QuoteForMessageTest, CutsWhatIsLongAndSaysSo) {
  EXPECT_EQ(QuoteForMessage("abc", 3), "\"abc\"");
  EXPECT_EQ(QuoteForMessage("abcdef", 3), "\"abc...\" (6 bytes)");
  EXPECT_LT(QuoteForMessage(std::string(1 << 20, 'a')).size(), 160u);
}

}  // namespace
}  // namespace salient
