#include "client/options/server_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace salient::client {
namespace {

using ::testing::HasSubstr;

TEST(ServerAddressTest, HasAPortHoweverItWasWritten) {
  const std::pair<const char*, const char*> expected[] = {
      {"quant.example:8443", "quant.example:8443"},
      {"localhost", "localhost:8443"},
      {"10.0.0.1", "10.0.0.1:8443"},
      {"http://localhost:9000", "localhost:9000"},
      {"http://localhost/", "localhost:8443"},
      {"HTTP://localhost", "localhost:8443"},
      {"[::1]", "[::1]:8443"},
      {"[::1]:9", "[::1]:9"},
      {"::1", "[::1]:8443"},
      {"unix:/run/salient.sock", "unix:/run/salient.sock"},
      {"dns:///quant.example:1", "dns:///quant.example:1"},
  };
  for (const auto& [text, address] : expected) {
    const auto parsed = ServerAddress(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, address) << text;
  }
}

TEST(ServerAddressTest, WhatLeadsNowhereIsNamedWithWhatWasExpected) {
  for (const char* text : {"", "host:", "host:port", "host:0", "host:65536", "host:+1", ":8443",
                           "http://host:1/path", "a b:1", "ftp://host", "[::1]x"}) {
    const auto parsed = ServerAddress(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("expected HOST:PORT"));
  }
  EXPECT_THAT(std::string(ServerAddress("https://quant.example:443").status().message()),
              HasSubstr("plaintext"));
}

}  // namespace
}  // namespace salient::client
