#include "proto/wire/sha256.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/strings/escaping.h"

namespace salient {
namespace {

std::string Hex(const Sha256& sha256) {
  const auto bytes = sha256.Snapshot();
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// The vectors are those of FIPS 180-4's examples.
TEST(Sha256Test, AgreesWithPublishedVectors) {
  Sha256 sha256;
  EXPECT_EQ(Hex(sha256), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  sha256.Update("abc");
  EXPECT_EQ(Hex(sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 long_one;
  for (int i = 0; i < 1000; ++i) long_one.Update(std::string(1000, 'a'));
  EXPECT_EQ(Hex(long_one), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(long_one.size_bytes(), 1000000);
}

TEST(Sha256Test, ASnapshotDoesNotEndIt) {
  Sha256 sha256;
  sha256.Update("a");
  Hex(sha256);
  sha256.Update("bc");
  Sha256 moved = std::move(sha256);
  EXPECT_EQ(Hex(moved), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace salient
