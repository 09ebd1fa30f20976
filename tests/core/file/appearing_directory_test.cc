#include "core/file/appearing_directory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/file/durable_write.h"
#include "core/file/growing_name.h"
#include "core/safetensors/safetensors.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

class AppearingDirectoryTest : public ::testing::Test {
 protected:
  AppearingDirectoryTest() {
    parent_ = fs::path(::testing::TempDir()) /
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(parent_);
    fs::create_directories(parent_);
    out_ = (parent_ / "out").string();
  }
  ~AppearingDirectoryTest() override { fs::remove_all(parent_); }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(parent_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  // Makes one in a process that is killed.
  void LeaveBehind(const std::string& out) const {
    const pid_t child = fork();
    if (child == 0) {
      auto growing = AppearingDirectory::Create(out);
      if (growing.ok()) std::ofstream(growing->path() + "/half") << "written";
      kill(getpid(), SIGKILL);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
  }

  fs::path parent_;
  std::string out_;
};

TEST_F(AppearingDirectoryTest, WhatAKilledProcessLeftGoesWithTheNextOne) {
  LeaveBehind(out_);
  LeaveBehind(out_);
  fs::create_directory(out_ + ".incomplete-0123abc");    // It is no name of ours.
  fs::create_directory(out_ + "2.incomplete-01234567");  // It is another output's.
  std::ofstream(out_ + ".incomplete-89abcdef") << "a file of somebody's";
  auto growing = AppearingDirectory::Create(out_);
  ASSERT_TRUE(growing.ok()) << growing.status();
  EXPECT_THAT(Names(), UnorderedElementsAre(fs::path(growing->path()).filename().string(),
                                            "out.incomplete-0123abc", "out2.incomplete-01234567",
                                            "out.incomplete-89abcdef"));
}

TEST_F(AppearingDirectoryTest, WhatIsStillFilledStays) {
  auto first = AppearingDirectory::Create(out_);
  ASSERT_TRUE(first.ok()) << first.status();
  std::ofstream(first->path() + "/half") << "written";
  auto second = AppearingDirectory::Create(out_);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(fs::exists(first->path() + "/half"));
  ASSERT_TRUE(first->Commit().ok());
  EXPECT_TRUE(fs::exists(out_ + "/half"));
  EXPECT_EQ(second->Commit().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(AppearingDirectoryTest, ADirectoryIsLockedWhenItHasItsName) {
  fs::create_directory(out_);  // It is replaced.
  auto growing = AppearingDirectory::Create(out_);
  ASSERT_TRUE(growing.ok()) << growing.status();
  const int fd = open(growing->path().c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(LockName(fd, growing->path()), NameLock::kTheirs);
  ASSERT_TRUE(growing->Commit().ok());
  close(fd);
}

TEST_F(AppearingDirectoryTest, ALongNameIsCutBesideItsOutput) {
  const std::string longest = (parent_ / (std::string(250, 'n') + "\xc3\xa9" + "end")).string();
  auto growing = AppearingDirectory::Create(longest);
  ASSERT_TRUE(growing.ok()) << growing.status();
  EXPECT_EQ(fs::path(growing->path()).filename().string().size(), 255u);
  ASSERT_TRUE(growing->Commit().ok());
  EXPECT_TRUE(fs::is_directory(longest));
  EXPECT_EQ(AppearingDirectory::Create(longest + "s").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(GrowingNameTest, IsNotCutInsideACharacter) {
  const std::string path = "/tmp/" + std::string(244, 'n') + "\xc3\xa9";
  EXPECT_EQ(GrowingName(path, ".partial"), path + ".partial");
  EXPECT_EQ(GrowingName(path, ".partial-"), path + ".partial-");
  EXPECT_EQ(GrowingName(path, ".partial-0"), "/tmp/" + std::string(244, 'n') + ".partial-0");
}

TEST_F(AppearingDirectoryTest, APartialFileOfAKilledWriterIsWrittenOver) {
  const std::string path = (parent_ / "packed").string();
  std::ofstream(path + ".partial-0") << std::string(1000, 'x');
  const int busy = open((path + ".partial-1").c_str(), O_WRONLY | O_CREAT, 0666);
  ASSERT_EQ(flock(busy, LOCK_EX), 0);
  ASSERT_TRUE(WriteSafetensors(path, {}, {}).ok());
  EXPECT_THAT(Names(), UnorderedElementsAre("packed", "packed.partial-1"));
  EXPECT_LT(fs::file_size(path), 1000u);
  close(busy);
}

TEST_F(AppearingDirectoryTest, AFileThatMayNotGrowIsAFullDisk) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string path = (parent_ / "packed").string();
  const absl::Status status = WriteSafetensors(path, {}, {{"long", std::string(1000, 'x')}});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), EndsWith("cannot write: File too large"));
  EXPECT_THAT(Names(), IsEmpty());
}

}  // namespace
}  // namespace salient
