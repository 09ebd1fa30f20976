#include "server/jobs/job_log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>

namespace salient {
namespace {

JobProgress Progress(int64_t block) {
  JobProgress progress;
  progress.block = block;
  return progress;
}

std::vector<int64_t> Revisions(const JobWatch::Batch& batch) {
  std::vector<int64_t> revisions;
  for (const JobEvent& event : batch.events) revisions.push_back(event.revision);
  return revisions;
}

TEST(JobLogTest, EventsComeInOrderFromAnyRevision) {
  const auto log = std::make_shared<JobLog>();
  EXPECT_EQ(log->Append(absl::Now(), JobState::kQueued), 1);
  EXPECT_EQ(log->Append(absl::Now(), JobWarning{"a"}), 2);
  EXPECT_EQ(log->Append(absl::Now(), JobState::kCancelled), 3);
  EXPECT_EQ(log->revision(), 3);
  for (int64_t after = 0; after <= 4; ++after) {
    const auto watch = log->Watch(after, [] {});
    const JobWatch::Batch batch = watch->Take(100);
    std::vector<int64_t> expected;
    for (int64_t revision = after + 1; revision <= 3; ++revision) expected.push_back(revision);
    EXPECT_EQ(Revisions(batch), expected) << after;
    EXPECT_TRUE(batch.ended) << after;
  }
  const auto watch = log->Watch(0, [] {});
  JobWatch::Batch batch = watch->Take(2);
  EXPECT_EQ(Revisions(batch), (std::vector<int64_t>{1, 2}));
  EXPECT_FALSE(batch.ended);
  batch = watch->Take(2);
  EXPECT_EQ(Revisions(batch), (std::vector<int64_t>{3}));
  EXPECT_TRUE(batch.ended);
}

TEST(JobLogTest, OnlyTheNewestProgressIsKept) {
  const auto log = std::make_shared<JobLog>();
  log->Append(absl::Now(), JobState::kQueued);
  for (int64_t i = 0; i < 1000; ++i) log->Append(absl::Now(), Progress(i));
  log->Append(absl::Now(), JobWarning{"a"});
  const JobWatch::Batch batch = log->Watch(0, [] {})->Take(5000);
  ASSERT_EQ(Revisions(batch), (std::vector<int64_t>{1, 1001, 1002}));
  EXPECT_EQ(std::get<JobProgress>(batch.events[1].what).block, 999);
  EXPECT_FALSE(batch.ended);
}

TEST(JobLogTest, AWatchMayBeDroppedFromItsOwnWake) {
  const auto log = std::make_shared<JobLog>();
  std::unique_ptr<JobWatch> watch;
  int wakes = 0;
  watch = log->Watch(0, [&] {
    ++wakes;
    watch.reset();
  });
  log->Append(absl::Now(), JobWarning{"a"});
  log->Wake();
  log->Wake();
  EXPECT_EQ(wakes, 1);
}

TEST(JobLogTest, AWatchMayTakeInItsWake) {
  const auto log = std::make_shared<JobLog>();
  std::unique_ptr<JobWatch> watch;
  std::vector<int64_t> taken;
  watch = log->Watch(0, [&] { taken = Revisions(watch->Take(10)); });
  log->Append(absl::Now(), JobWarning{"a"});
  log->Wake();
  EXPECT_EQ(taken, (std::vector<int64_t>{1}));
}

TEST(JobLogTest, DroppingWaitsForAWakeOnAnotherThreadAndNoneFollows) {
  const auto log = std::make_shared<JobLog>();
  for (int round = 0; round < 50; ++round) {
    std::latch inside(1);
    std::atomic<bool> entered{false};
    std::atomic<bool> left{false};
    std::atomic<bool> dropped{false};
    std::unique_ptr<JobWatch> watch = log->Watch(0, [&] {
      EXPECT_FALSE(dropped);
      if (!entered.exchange(true)) inside.count_down();
      std::this_thread::yield();
      left = true;
    });
    std::thread waker([&] {
      for (int i = 0; i < 20; ++i) {
        log->Append(absl::Now(), JobWarning{"a"});
        log->Wake();
      }
    });
    inside.wait();
    watch.reset();
    EXPECT_TRUE(left);
    dropped = true;
    waker.join();
  }
}

// What comes while a wake runs is told by another one.
TEST(JobLogTest, EveryAppendIsFollowedByAWake) {
  const auto log = std::make_shared<JobLog>();
  std::atomic<int64_t> seen{0};
  std::unique_ptr<JobWatch> watch;
  std::atomic<bool> ready{false};
  watch = log->Watch(0, [&] {
    while (!ready) std::this_thread::yield();
    for (JobWatch::Batch batch = watch->Take(7); !batch.events.empty(); batch = watch->Take(7)) {
      seen = batch.events.back().revision;
    }
  });
  ready = true;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&log] {
      for (int i = 0; i < 300; ++i) {
        log->Append(absl::Now(), JobWarning{"a"});
        log->Wake();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen, 900);
}

}  // namespace
}  // namespace salient
