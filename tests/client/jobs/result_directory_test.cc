#include "client/jobs/result_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>

#include "tests/client/file_contents.h"
#include "tests/client/tensor_files.h"

namespace salient::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class ResultDirectoryTest : public ::testing::Test {
 protected:
  TemporaryDirectory directory_;
  const std::string path_ = directory_.File("out");
};

TEST_F(ResultDirectoryTest, AppearsWhole) {
  auto result = ResultDirectory::Create(path_ + "/");
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_TRUE(result->BeginFile("a").ok());
  ASSERT_TRUE(result->Append("one ").ok());
  ASSERT_TRUE(result->Append("two").ok());
  ASSERT_TRUE(result->BeginFile("empty").ok());
  EXPECT_FALSE(CheckOutputDirectory(path_ + "/missing/out").ok());
  EXPECT_EQ(CheckOutputDirectory("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(directory_.List(), ElementsAre(StartsWith("out.incomplete-")));
  ASSERT_TRUE(result->Commit().ok());
  EXPECT_THAT(directory_.List(), ElementsAre("out"));
  EXPECT_EQ(ReadFile(path_ + "/a"), "one two");
  EXPECT_EQ(ReadFile(path_ + "/empty"), "");
}

TEST_F(ResultDirectoryTest, IsGoneWithoutCommit) {
  {
    auto result = ResultDirectory::Create(path_);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_TRUE(result->BeginFile("a").ok());
    const ResultDirectory moved = *std::move(result);
    EXPECT_THAT(directory_.List(), ElementsAre(StartsWith("out.incomplete-")));
  }
  EXPECT_THAT(directory_.List(), IsEmpty());
}

TEST_F(ResultDirectoryTest, TakesThePlaceOfAnEmptyDirectoryOnly) {
  ASSERT_EQ(mkdir(path_.c_str(), 0777), 0);
  auto result = ResultDirectory::Create(path_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_TRUE(result->BeginFile("a").ok());
  // Somebody else was faster.
  std::ofstream(path_ + "/theirs") << "x";
  EXPECT_EQ(result->Commit().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadFile(path_ + "/theirs"), "x");
}

TEST_F(ResultDirectoryTest, NamesWhatIsInTheWay) {
  std::ofstream(path_) << "a file";
  EXPECT_EQ(ResultDirectory::Create(path_).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ResultDirectory::Create(directory_.File("no/such/out")).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(ResultDirectoryTest, LinkThatLeadsNowhereIsInTheWay) {
  ASSERT_EQ(symlink("nowhere", path_.c_str()), 0);
  for (const absl::Status& status :
       {CheckOutputDirectory(path_), ResultDirectory::Create(path_).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("out: is a link that leads nowhere"));
  }
  EXPECT_THAT(directory_.List(), ElementsAre("out"));
}

// What a killed process left is in nobody's way either, though the next has its process id.
TEST_F(ResultDirectoryTest, TwoOfOneNameDoNotMeetAndTheFirstIsKept) {
  auto first = ResultDirectory::Create(path_);
  auto second = ResultDirectory::Create(path_);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  for (ResultDirectory* result : {&*first, &*second}) {
    ASSERT_TRUE(result->BeginFile("a").ok());
    ASSERT_TRUE(result->Append(result == &*first ? "first" : "second").ok());
  }
  EXPECT_TRUE(first->Commit().ok());
  EXPECT_EQ(second->Commit().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadFile(path_ + "/a"), "first");
}

TEST_F(ResultDirectoryTest, FileCannotComeTwiceNorElsewhere) {
  auto result = ResultDirectory::Create(path_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_TRUE(result->BeginFile("a").ok());
  EXPECT_THAT(result->BeginFile("a").message(), HasSubstr("came twice"));
  for (const char* name : {"../a", "/a", "..", ".", "", ".a", "b\\a", "b/c/d/a", "b/..", "../b/a",
                           "b/", "/b/a", ".b/a", "b/.a", "b\x1b"}) {
    EXPECT_EQ(result->BeginFile(name).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST_F(ResultDirectoryTest, SubdirectoriesAreMadeOnceAndAppearWithIt) {
  auto result = ResultDirectory::Create(path_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_TRUE(result->BeginFile("one/a").ok());
  ASSERT_TRUE(result->Append("1a").ok());
  ASSERT_TRUE(result->BeginFile("two/a").ok());
  ASSERT_TRUE(result->Append("2a").ok());
  ASSERT_TRUE(result->BeginFile("one/three/a").ok());
  ASSERT_TRUE(result->Append("13a").ok());
  ASSERT_TRUE(result->BeginFile("four/five/a").ok());
  ASSERT_TRUE(result->BeginFile("one/b").ok());
  ASSERT_TRUE(result->Append("1b").ok());
  EXPECT_THAT(result->BeginFile("one/a").message(), HasSubstr("came twice"));
  ASSERT_TRUE(result->BeginFile("plain").ok());
  EXPECT_THAT(result->BeginFile("plain/a").message(), HasSubstr("is a directory, too"));
  EXPECT_EQ(result->BeginFile("one").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(directory_.List(), ElementsAre(StartsWith("out.incomplete-")));
  ASSERT_TRUE(result->Commit().ok());
  EXPECT_EQ(ReadFile(path_ + "/one/a"), "1a");
  EXPECT_EQ(ReadFile(path_ + "/one/b"), "1b");
  EXPECT_EQ(ReadFile(path_ + "/one/three/a"), "13a");
  EXPECT_EQ(ReadFile(path_ + "/four/five/a"), "");
  EXPECT_EQ(ReadFile(path_ + "/two/a"), "2a");
}

}  // namespace
}  // namespace salient::client
