#include "server/workers/io_thread.h"

#include <gtest/gtest.h>

#include <chrono>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/workers/cancel_token.h"
#include "server/workers/worker_pool.h"

namespace salient {
namespace {

TEST(IoThreadTest, DoesOneThingAfterTheOtherBesideItsStarter) {
  StageTimes times;
  IoThread io(times);
  std::latch go(1);
  std::vector<std::string> order;
  std::thread::id thread;
  const auto first = io.Start([&] {
    go.wait();  // The starter went on, else this would wait for ever.
    thread = std::this_thread::get_id();
    order.push_back("first");
    return absl::OkStatus();
  });
  const auto second = io.Start([&] {
    EXPECT_EQ(std::this_thread::get_id(), thread);
    order.push_back("second");
    return absl::DataLossError("torn");
  });
  go.count_down();
  EXPECT_EQ(second->Wait().message(), "torn");
  EXPECT_TRUE(first->Wait().ok());
  EXPECT_EQ(order, (std::vector<std::string>{"first", "second"}));
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(IoThreadTest, WhatIsDroppedBeforeItBeganNeverBegins) {
  StageTimes times;
  IoThread io(times);
  std::latch go(1);
  const auto first = io.Start([&] {
    go.wait();
    return absl::OkStatus();
  });
  auto dropped = io.Start([] {
    ADD_FAILURE() << "was dropped";
    return absl::OkStatus();
  });
  dropped = nullptr;
  go.count_down();
  EXPECT_TRUE(first->Wait().ok());
}

TEST(IoThreadTest, WhatIsDroppedAfterItBeganIsWaitedFor) {
  StageTimes times;
  IoThread io(times);
  std::latch begun(1);
  bool ended = false;
  auto work = io.Start([&] {
    begun.count_down();
    std::this_thread::yield();
    ended = true;
    return absl::OkStatus();
  });
  begun.wait();
  work = nullptr;
  EXPECT_TRUE(ended);
}

// What it took along is gone before it counts as ended: a block's tensors before the next block's.
TEST(IoThreadTest, FreesWhatTheWorkOwnsBeforeItIsWaitedFor) {
  StageTimes times;
  IoThread io(times);
  auto owned = std::make_shared<int>(0);
  const std::weak_ptr<int> seen = owned;
  const auto work = io.Start([owned = std::move(owned)] { return absl::OkStatus(); });
  EXPECT_TRUE(work->Wait().ok());
  EXPECT_TRUE(seen.expired());
}

TEST(IoThreadTest, AnExecutorCountsItsTimeAsTheStagesItEnters) {
  WorkerPool pool(1);
  const CancelToken stop;
  IoThread io(pool.wall_times());
  PoolExecutor executor(pool, stop, &io);
  ASSERT_TRUE(executor
                  .Start([&] {
                    const StageScope stage(executor, Stage::kWrite);
                    const auto begin = std::chrono::steady_clock::now();
                    while (std::chrono::steady_clock::now() == begin) {
                    }
                    return absl::OkStatus();
                  })
                  ->Wait()
                  .ok());
  const WorkerPool::Stats stats = pool.GetStats();
  EXPECT_GT(stats.stage_wall_seconds[static_cast<size_t>(Stage::kWrite)], 0);
  EXPECT_EQ(stats.stage_busy_seconds[static_cast<size_t>(Stage::kWrite)], 0) << "no worker's";
}

TEST(IoThreadTest, WithoutOneTheStarterDoesTheWork) {
  WorkerPool pool(1);
  const CancelToken stop;
  PoolExecutor executor(pool, stop);
  std::thread::id thread;
  const auto work = executor.Start([&] {
    thread = std::this_thread::get_id();
    return absl::DataLossError("torn");
  });
  EXPECT_EQ(thread, std::this_thread::get_id());
  EXPECT_EQ(work->Wait().message(), "torn");
}

}  // namespace
}  // namespace salient
