#include "proto/wire/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace salient {
namespace {

// Computes a bit at a time, from the polynomial alone.
uint32_t BitwiseCrc32c(absl::string_view data) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

// RFC 3720, appendix B.4, and the check value every catalogue of CRCs gives.
TEST(Crc32cTest, AgreesWithPublishedVectors) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  std::string rising;
  for (int i = 0; i < 32; ++i) rising.push_back(static_cast<char>(i));
  EXPECT_EQ(Crc32c(rising), 0x46DD794Eu);
}

// The library switches between code paths by size and alignment.
TEST(Crc32cTest, AgreesWithTheBitwiseDefinitionAtEverySizeAndAlignment) {
  std::mt19937 random(7);
  std::string data;
  for (int i = 0; i < 5000; ++i) data.push_back(static_cast<char>(random()));
  for (size_t size = 0; size < 600; ++size) {
    const absl::string_view part = absl::string_view(data).substr(size % 17, size);
    ASSERT_EQ(Crc32c(part), BitwiseCrc32c(part)) << size;
  }
  EXPECT_EQ(Crc32c(data), BitwiseCrc32c(data));
}

TEST(Crc32cTest, EveryFlippedBitChangesIt) {
  std::string data = "a chunk of a tensor";
  const uint32_t before = Crc32c(data);
  for (size_t bit = 0; bit < data.size() * 8; ++bit) {
    data[bit / 8] = static_cast<char>(data[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_NE(Crc32c(data), before) << "bit " << bit;
    data[bit / 8] = static_cast<char>(data[bit / 8] ^ (1 << (bit % 8)));
  }
}

}  // namespace
}  // namespace salient
