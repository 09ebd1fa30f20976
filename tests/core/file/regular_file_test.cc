#include "core/file/regular_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>

namespace salient {
namespace {

using ::testing::HasSubstr;

TEST(RegularFileTest, OpensAFileAndKnowsItsSize) {
  const std::string path = ::testing::TempDir() + "regular_file_test.txt";
  std::ofstream(path) << "abc";
  auto file = RegularFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->bytes(), 3);
  const RegularFile moved = *std::move(file);
  char text[4] = {};
  EXPECT_EQ(read(moved.fd(), text, 4), 3);
  EXPECT_STREQ(text, "abc");
}

TEST(RegularFileTest, ClosesItsDescriptorOnce) {
  const std::string path = ::testing::TempDir() + "regular_file_test.txt";
  std::ofstream(path) << "abc";
  int fd = -1;
  {
    auto file = RegularFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    fd = file->fd();
    RegularFile moved = *std::move(file);
    EXPECT_EQ(moved.fd(), fd);
  }
  EXPECT_EQ(fsync(fd), -1) << "it is open still";
}

// A pipe without a writer must be refused, not waited for.
TEST(RegularFileTest, TakesNothingElse) {
  const std::string pipe = ::testing::TempDir() + "regular_file_test.pipe";
  unlink(pipe.c_str());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& path : {pipe, ::testing::TempDir(), std::string("/dev/null")}) {
    const absl::Status status = RegularFile::Open(path).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << path;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path + ": is not a regular file"));
  }
  const absl::Status missing = RegularFile::Open("/no/such/file").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("/no/such/file: cannot open"));
}

}  // namespace
}  // namespace salient
