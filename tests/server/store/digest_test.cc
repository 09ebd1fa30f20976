#include "server/store/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

constexpr char kAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

struct Vector {
  std::string content;
  std::string hex;
};

// They are the examples of FIPS 180-4 and, for lengths about the 64 bytes of a block, those of
// Python's hashlib.
const Vector kVectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", kAbc},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {std::string(55, 'x'), "d5e285683cd4efc02d021a5c62014694958901005d6f71e89e0989fac77e4072"},
    {std::string(64, 'x'), "7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd6219506b5393c"},
    {std::string(65, 'x'), "9537c5fdf120482f7d58d25e9ed583f52c02b4e304ea814db1633ad565aed7e9"},
    {std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

TEST(DigestTest, KnownVectors) {
  for (const Vector& vector : kVectors) {
    const Digest digest = DigestOf(vector.content);
    EXPECT_EQ(HexSha256(digest), vector.hex) << vector.content.size() << " bytes";
    EXPECT_EQ(digest.size_bytes, static_cast<int64_t>(vector.content.size()));
  }
}

TEST(DigestTest, PiecesGiveTheDigestOfTheWholeAndSnapshotsThatOfThePrefix) {
  std::string content;
  for (int i = 0; i < 1000; ++i) content.push_back(static_cast<char>(i * 37));
  Sha256 sha256;
  size_t at = 0;
  for (size_t piece = 1; at < content.size(); ++piece) {
    const std::string data = content.substr(at, piece);
    sha256.Update(data);
    at += data.size();
    EXPECT_EQ(DigestOf(sha256), DigestOf(content.substr(0, at))) << "after " << at << " bytes";
  }
  Sha256 moved = std::move(sha256);
  EXPECT_EQ(DigestOf(moved), DigestOf(content));
  EXPECT_EQ(moved.size_bytes(), 1000);
}

TEST(DigestTest, ParsesWhatItPrints) {
  const Digest digest = DigestOf("abc");
  const auto parsed = ParseDigest("digest", kAbc, 3);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, digest);
  EXPECT_EQ(HexSha256(*parsed), kAbc);
  EXPECT_EQ(ToString(*parsed), absl::StrCat(kAbc, "/3"));
}

TEST(DigestTest, AMalformedDigestIsRefusedByFieldAndValue) {
  const std::string good = kAbc;
  const std::string bad[] = {
      "",
      good.substr(1),
      absl::StrCat(good, "0"),
      absl::AsciiStrToUpper(good),
      absl::StrCat("g", good.substr(1)),
      absl::StrCat("../../", good.substr(6)),
      absl::StrCat(absl::string_view("\0", 1), good.substr(1)),
      std::string(65536, 'a'),
  };
  for (const std::string& hex : bad) {
    const auto parsed = ParseDigest("digests[7]", hex, 3);
    ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << hex.substr(0, 80);
    EXPECT_THAT(parsed.status().message(), HasSubstr("digests[7].sha256"));
    EXPECT_THAT(parsed.status().message(), HasSubstr("64 lower-case hexadecimal"));
    EXPECT_LT(parsed.status().message().size(), 600u);
  }
  const auto negative = ParseDigest("digest", good, -1);
  EXPECT_EQ(negative.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(negative.status().message(), HasSubstr("digest.size_bytes is -1"));
}

}  // namespace
}  // namespace salient
