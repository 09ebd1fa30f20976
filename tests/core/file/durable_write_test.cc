#include "core/file/durable_write.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <string>

namespace salient {
namespace {

using ::testing::HasSubstr;

std::string ContentOf(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(WriteDurablyTest, ReplacesWhatWasThere) {
  const std::string path = ::testing::TempDir() + "durable_write_test.txt";
  ASSERT_TRUE(WriteDurably(path, "a longer text").ok());
  ASSERT_TRUE(WriteDurably(path, "short").ok());
  EXPECT_EQ(ContentOf(path), "short");
  EXPECT_NE(access((path + ".new").c_str(), F_OK), 0);
}

TEST(WriteDurablyTest, LeavesNothingBehindWhenTheNameIsTaken) {
  const std::string path = ::testing::TempDir() + "durable_write_test.directory";
  ASSERT_TRUE(mkdir(path.c_str(), 0700) == 0 || errno == EEXIST);
  const absl::Status status = WriteDurably(path, "text");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot take the name " + path));
  EXPECT_NE(access((path + ".new").c_str(), F_OK), 0);
}

TEST(WriteDurablyTest, NamesAMissingDirectory) {
  const absl::Status status = WriteDurably("/no/such/directory/file", "text");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/such/directory/file.new"));
}

}  // namespace
}  // namespace salient
