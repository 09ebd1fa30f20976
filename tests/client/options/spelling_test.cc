#include "client/options/spelling.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace salient::client {
namespace {

const std::vector<std::string> kCommands = {"quantize", "verify", "jobs",
                                            "list",     "--bits", "--group-size"};

TEST(SpellingTest, AnEditFewerThanAThirdOfTheWordIsMeant) {
  EXPECT_EQ(NearestName("quantise", kCommands), "quantize");
  EXPECT_EQ(NearestName("qauntize", kCommands), "quantize") << "neighbours exchanged";
  EXPECT_EQ(NearestName("lst", kCommands), "list");
  EXPECT_EQ(NearestName("job", kCommands), "jobs");
  EXPECT_EQ(NearestName("--bit", kCommands), "--bits");
  EXPECT_EQ(NearestName("--group_size", kCommands), "--group-size");
  EXPECT_EQ(NearestName("--groupsize", kCommands), "--group-size");
}

TEST(SpellingTest, ABeginningIsMeant) {
  EXPECT_EQ(NearestName("quan", kCommands), "quantize");
  EXPECT_EQ(NearestName("--group", kCommands), "--group-size");
}

TEST(SpellingTest, WhatIsFarFromAllIsMeantByNone) {
  for (const std::string& far : {std::string("serve"), std::string("x"), std::string(""),
                                 std::string("--server"), std::string(100'000, 'q')}) {
    EXPECT_EQ(NearestName(far, kCommands), std::nullopt) << far.substr(0, 10);
    EXPECT_EQ(DidYouMean(far, kCommands), "");
  }
  EXPECT_EQ(NearestName("quantise", {}), std::nullopt);
  EXPECT_EQ(DidYouMean("quantise", kCommands), "; did you mean quantize?");
}

}  // namespace
}  // namespace salient::client
