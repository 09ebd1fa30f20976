#include "server/workers/bounded_lane.h"

#include <gtest/gtest.h>

#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/error/call_error.h"

namespace salient {
namespace {

TEST(BoundedLaneTest, DoesOneTaskAfterTheOtherBesideItsCaller) {
  std::vector<std::string> order;
  {
    BoundedLane lane("lane", {.tasks = 3});
    std::latch go(1);
    ASSERT_TRUE(lane.Submit([&] {
                      go.wait();  // The caller went on, else this would wait for ever.
                      order.push_back("first");
                      lane.Continue([&order] { order.push_back("rest of first"); });
                    })
                    .ok());
    ASSERT_TRUE(lane.Submit([&] { order.push_back("second"); }).ok());
    go.count_down();
  }
  EXPECT_EQ(order, (std::vector<std::string>{"first", "second", "rest of first"}));
}

TEST(BoundedLaneTest, RefusesWhatWouldWaitBehindTooMany) {
  std::latch begun(1);
  std::latch go(1);
  int done = 0;
  {
    BoundedLane lane("lane", {.tasks = 2});
    ASSERT_TRUE(lane.Submit([&] {
                      begun.count_down();
                      go.wait();
                    })
                    .ok());
    begun.wait();
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(lane.Submit([&done] { ++done; }).ok());
    const auto owned = std::make_shared<int>(0);
    const absl::Status refused = lane.Submit([&done, owned] { done += 100; });
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(DetailsOf(refused).reason, Reason::kBusy);
    EXPECT_TRUE(DetailsOf(refused).retry_after.has_value());
    EXPECT_EQ(owned.use_count(), 1);
    EXPECT_EQ(lane.waiting(), 2);
    lane.Continue([&done] { done += 10; });
    EXPECT_EQ(lane.waiting(), 3);
    go.count_down();
  }
  EXPECT_EQ(done, 12);
}

TEST(BoundedLaneTest, RefusesWhatWouldHoldTooMuchWhileItWaits) {
  std::latch begun(1);
  std::latch go(1);
  BoundedLane lane("lane", {.tasks = 100, .bytes = 10});
  ASSERT_TRUE(lane.Submit(
                      [&] {
                        begun.count_down();
                        go.wait();
                      },
                      1000)
                  .ok());
  begun.wait();  // The running task does not wait.
  EXPECT_TRUE(lane.Submit([] {}, 6).ok());
  EXPECT_TRUE(lane.Submit([] {}, 4).ok());
  EXPECT_EQ(DetailsOf(lane.Submit([] {}, 1)).reason, Reason::kBusy);
  EXPECT_TRUE(lane.Submit([] {}).ok());
  go.count_down();
}

TEST(BoundedLaneTest, ServesClientsInTurn) {
  std::vector<std::string> order;
  {
    BoundedLane lane("lane", {.tasks = 100});
    std::latch begun(1);
    std::latch go(1);
    ASSERT_TRUE(lane.Submit([&] {
                      begun.count_down();
                      go.wait();
                    })
                    .ok());
    begun.wait();
    for (const char* task : {"a1", "a2", "a3", "a4", "b1", "c1", "b2"}) {
      ASSERT_TRUE(
          lane.Submit([&order, task] { order.emplace_back(task); }, 1, std::string(task, 1)).ok());
    }
    go.count_down();
  }
  EXPECT_EQ(order, (std::vector<std::string>{"a1", "b1", "c1", "a2", "b2", "a3", "a4"}));
}

TEST(BoundedLaneTest, GivesOneClientHalfOfWhatMayWait) {
  std::latch begun(1);
  std::latch go(1);
  BoundedLane lane("lane", {.tasks = 5, .bytes = 100});
  ASSERT_TRUE(lane.Submit([&] {
                    begun.count_down();
                    go.wait();
                  })
                  .ok());
  begun.wait();
  EXPECT_TRUE(lane.Submit([] {}, 30, "greedy").ok());
  EXPECT_EQ(DetailsOf(lane.Submit([] {}, 21, "greedy")).reason, Reason::kBusy) << "of the bytes";
  EXPECT_TRUE(lane.Submit([] {}, 20, "greedy").ok());
  EXPECT_TRUE(lane.Submit([] {}, 0, "greedy").ok());
  EXPECT_EQ(DetailsOf(lane.Submit([] {}, 0, "greedy")).reason, Reason::kBusy) << "of the tasks";
  EXPECT_TRUE(lane.Submit([] {}, 50, "modest").ok());
  EXPECT_EQ(DetailsOf(lane.Submit([] {}, 1, "third")).reason, Reason::kBusy) << "no bytes are left";
  EXPECT_TRUE(lane.Submit([] {}, 0, "third").ok());
  EXPECT_EQ(DetailsOf(lane.Submit([] {}, 0, "fourth")).reason, Reason::kBusy) << "no task is left";
  EXPECT_EQ(lane.waiting(), 5);
  go.count_down();
}

TEST(BoundedLaneTest, TakesTasksFromManyThreads) {
  int done = 0;  // Only the lane's thread counts.
  {
    BoundedLane lane("lane", {.tasks = 4000});
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
      callers.emplace_back([&] {
        for (int task = 0; task < 1000; ++task) {
          EXPECT_TRUE(lane.Submit([&done] { ++done; }).ok());
          EXPECT_GE(lane.waiting(), 0);
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
  }
  EXPECT_EQ(done, 4000);
}

}  // namespace
}  // namespace salient
