#include "server/watchdog.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace salient {
namespace {

class WatchdogTest : public ::testing::Test {
 protected:
  Watchdog watchdog_{{[this] { return store_; }, [this] { return connection_; }},
                     [this](Watchdog::Condition told) { told_.push_back(told); },
                     [this] { ++given_up_; }};
  absl::Status store_;
  absl::Status connection_;
  std::vector<Watchdog::Condition> told_;
  int given_up_ = 0;
};

TEST_F(WatchdogTest, TellsWhenTheStoreChanges) {
  watchdog_.Look();
  EXPECT_TRUE(told_.empty());
  store_ = absl::UnavailableError("read-only");
  for (int i = 0; i < 3; ++i) watchdog_.Look();
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_FALSE(told_[0].store_writable);
  EXPECT_TRUE(told_[0].reachable);
  EXPECT_FALSE(watchdog_.GetStats().condition.store_writable);
  store_ = absl::OkStatus();
  watchdog_.Look();
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_TRUE(told_[1].store_writable);
}

TEST_F(WatchdogTest, GivesUpAfterManyFailuresInARow) {
  connection_ = absl::DeadlineExceededError("silence");
  for (int i = 1; i < Watchdog::kFailuresUntilUnreachable; ++i) watchdog_.Look();
  EXPECT_TRUE(told_.empty());
  connection_ = absl::OkStatus();
  watchdog_.Look();  // The row is broken.
  connection_ = absl::DeadlineExceededError("silence");
  for (int i = 1; i < Watchdog::kFailuresUntilUnreachable; ++i) watchdog_.Look();
  EXPECT_TRUE(told_.empty());
  watchdog_.Look();
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_FALSE(told_[0].reachable);
  EXPECT_EQ(given_up_, 0);
  for (int i = 0; i < 10; ++i) watchdog_.Look();
  EXPECT_EQ(given_up_, 1);
  EXPECT_EQ(watchdog_.GetStats().failed_self_checks_total,
            2 * Watchdog::kFailuresUntilUnreachable - 1 + 10);
  connection_ = absl::OkStatus();
  watchdog_.Look();
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_TRUE(told_[1].reachable);
}

// Connections that this process cannot begin say nothing about those it takes.
TEST_F(WatchdogTest, WantOfDescriptorsIsNoSilence) {
  connection_ = absl::ResourceExhaustedError("too many open files");
  for (int i = 0; i < 10; ++i) watchdog_.Look();
  EXPECT_TRUE(told_.empty());
  EXPECT_EQ(given_up_, 0);
}

TEST(CheckWritableTest, LeavesNothingAndNamesWhatItCannotWrite) {
  const std::filesystem::path directory =
      std::filesystem::path(::testing::TempDir()) / "check_writable";
  std::filesystem::create_directories(directory);
  EXPECT_TRUE(CheckWritable(directory).ok());
  EXPECT_TRUE(std::filesystem::is_empty(directory));
  const absl::Status absent = CheckWritable(directory / "absent");
  EXPECT_FALSE(absent.ok());
  EXPECT_NE(absent.message().find("absent"), absl::string_view::npos) << absent;
}

}  // namespace
}  // namespace salient
