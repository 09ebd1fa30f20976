#include "server/observe/logs.h"

#include <gtest/gtest.h>

#include <string>

#include "server/error/call_error.h"

namespace salient {
namespace {

TEST(LogsTest, AGoodCallIsOneLineOfFields) {
  CallLine line{
      "QuantizeTensors", "ipv4:127.0.0.1:5", absl::OkStatus(), absl::Milliseconds(1250), 10, 20,
      {2, 300, 40}};
  EXPECT_EQ(CallText(line),
            "call method=QuantizeTensors peer=ipv4:127.0.0.1:5 code=OK seconds=1.250 bytes_in=10 "
            "bytes_out=20 groups=2 parameters=300 tokens=40");
}

// A name in a message must not be able to forge a line.
TEST(LogsTest, MessagesAreEscapedAndCut) {
  CallLine line{
      "M",
      "p",
      InvalidCall(Reason::kBadHeader, "name\n2026 info forged \"x\"" + std::string(9999, 'a')),
      absl::ZeroDuration(),
      0,
      0,
      {}};
  const std::string text = CallText(line);
  EXPECT_NE(text.find("code=INVALID_ARGUMENT"), std::string::npos);
  EXPECT_NE(text.find("reason=BAD_HEADER message=\"name\\n2026 info forged \\\"x\\\"aaa"),
            std::string::npos);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_LT(text.size(), 1000u);
}

TEST(LogsTest, LevelsAreAClosedSet) {
  EXPECT_TRUE(IsLogLevel("info"));
  EXPECT_TRUE(IsLogLevel("off"));
  EXPECT_FALSE(IsLogLevel("loud"));
  EXPECT_FALSE(IsLogLevel(""));
}

}  // namespace
}  // namespace salient
