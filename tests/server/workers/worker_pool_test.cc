#include "server/workers/worker_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <latch>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

class WorkerPoolTest : public ::testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(Workers, WorkerPoolTest, ::testing::Values(1, 2, 3, 7));

// Runs `work` on a worker, as the long task of a call.
void RunLong(WorkerPool& pool, WorkerPool::Task work) {
  std::latch done(1);
  pool.Submit(WorkerPool::Lane::kLong, [&done, work = std::move(work)]() mutable {
    work();
    done.count_down();
  });
  done.wait();
}

TEST_P(WorkerPoolTest, ForEachRunsEveryIndexOnce) {
  WorkerPool pool(GetParam());
  CancelToken stop;
  for (const int64_t count : {0, 1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> runs(count);
    absl::Status status;
    const auto loop = [&] {
      status = pool.ForEach(stop, count, [&runs](int64_t i) {
        runs[i].fetch_add(1);
        return absl::OkStatus();
      });
    };
    RunLong(pool, loop);  // It runs from a worker.
    EXPECT_TRUE(status.ok());
    for (const auto& run : runs) EXPECT_EQ(run.load(), 1);
    loop();  // It runs from a thread that is none.
    EXPECT_TRUE(status.ok());
    for (const auto& run : runs) EXPECT_EQ(run.load(), 2);
  }
}

TEST_P(WorkerPoolTest, TheErrorOfTheLowestIndexWins) {
  WorkerPool pool(GetParam());
  CancelToken stop;
  for (int round = 0; round < 200; ++round) {
    const absl::Status status = pool.ForEach(stop, 100, [](int64_t i) {
      if (i == 13) std::this_thread::yield();
      if (i >= 13 && i % 2 == 1) return absl::InvalidArgumentError(absl::StrCat(i));
      return absl::OkStatus();
    });
    EXPECT_EQ(status.message(), "13");
  }
}

TEST_P(WorkerPoolTest, ACancelledLoopStartsNoFurtherItem) {
  WorkerPool pool(GetParam());
  CancelToken stop;
  std::atomic<int64_t> started{0};
  const absl::Status status = pool.ForEach(stop, 1000, [&](int64_t i) {
    started.fetch_add(1);
    if (i == 5) stop.Cancel();
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsCancelled(status));
  EXPECT_GE(started.load(), 6);
  EXPECT_LT(started.load(), 1000);
  EXPECT_TRUE(absl::IsCancelled(pool.ForEach(stop, 10, [&](int64_t) {
    ADD_FAILURE() << "an item ran after the cancellation";
    return absl::OkStatus();
  })));
}

TEST_P(WorkerPoolTest, AnExpiredLoopSaysSo) {
  WorkerPool pool(GetParam());
  CancelToken stop;
  stop.Expire();
  stop.Cancel();  // The first stop counts.
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(pool.ForEach(stop, 3, [](int64_t) { return absl::OkStatus(); })));
}

// More loops than workers, each with loops inside: every worker is a caller somewhere.
TEST_P(WorkerPoolTest, NestedLoopsOfManyCallersDoNotWaitForEachOther) {
  WorkerPool pool(GetParam());
  CancelToken stop;
  constexpr int kCallers = 12;
  std::atomic<int64_t> runs{0};
  std::latch done(kCallers);
  for (int caller = 0; caller < kCallers; ++caller) {
    pool.Submit(WorkerPool::Lane::kLong, [&] {
      const absl::Status status = pool.ForEach(stop, 10, [&](int64_t) {
        return pool.ForEach(stop, 10, [&](int64_t) {
          runs.fetch_add(1);
          return absl::OkStatus();
        });
      });
      EXPECT_TRUE(status.ok());
      done.count_down();
    });
  }
  done.wait();
  EXPECT_EQ(runs.load(), kCallers * 100);
}

// However long the groups being quantized, messages of other calls are taken.
TEST_P(WorkerPoolTest, ShortWorkRunsWhileEveryWorkerIsInALongLoop) {
  WorkerPool pool(GetParam());
  CancelToken stop;
  std::atomic<bool> short_ran{false};
  std::latch done(GetParam());
  std::latch inside(GetParam());
  for (int i = 0; i < GetParam(); ++i) {
    pool.Submit(WorkerPool::Lane::kLong, [&] {
      inside.count_down();
      // Ends only when the short task ran: on one worker that is between two of these items.
      const absl::Status status = pool.ForEach(stop, 1'000'000'000, [&](int64_t) {
        std::this_thread::yield();
        return short_ran.load() ? absl::AbortedError("seen") : absl::OkStatus();
      });
      EXPECT_TRUE(absl::IsAborted(status));
      done.count_down();
    });
  }
  inside.wait();
  pool.Submit(WorkerPool::Lane::kShort, [&] { short_ran = true; });
  done.wait();
}

TEST(WorkerPoolOrderTest, NoItemStartsAfterAFailure) {
  WorkerPool pool(1);
  CancelToken stop;
  int started = 0;
  EXPECT_FALSE(pool.ForEach(stop, 100,
                            [&started](int64_t i) {
                              ++started;
                              return i == 4 ? absl::AbortedError("four") : absl::OkStatus();
                            })
                   .ok());
  EXPECT_EQ(started, 5);
}

TEST(WorkerPoolOrderTest, TasksOfALaneStartInOrderAndShortOnesFirst) {
  std::vector<std::string> order;
  {
    WorkerPool pool(1);
    std::latch go(1);
    pool.Submit(WorkerPool::Lane::kShort, [&go] { go.wait(); });
    for (int i = 0; i < 3; ++i) {
      pool.Submit(WorkerPool::Lane::kLong,
                  [&order, i] { order.push_back(absl::StrCat("long", i)); });
      pool.Submit(WorkerPool::Lane::kShort,
                  [&order, i] { order.push_back(absl::StrCat("short", i)); });
    }
    go.count_down();
  }  // the destructor runs what was submitted
  EXPECT_EQ(order,
            (std::vector<std::string>{"short0", "short1", "short2", "long0", "long1", "long2"}));
}

TEST_P(WorkerPoolTest, AThreadThatIsNoWorkerOnlyWaits) {
  WorkerPool pool(GetParam());
  CancelToken stop;
  const std::thread::id caller = std::this_thread::get_id();
  std::mutex mu;
  std::set<std::thread::id> threads;
  const auto note = [&] {
    std::lock_guard<std::mutex> lock(mu);
    threads.insert(std::this_thread::get_id());
  };
  ASSERT_TRUE(pool.ForEach(stop, 50,
                           [&](int64_t) {
                             note();
                             return pool.ForEach(stop, 3, [&](int64_t) {
                               note();
                               return absl::OkStatus();
                             });
                           })
                  .ok());
  EXPECT_EQ(threads.count(caller), 0u);
  EXPECT_LE(threads.size(), static_cast<size_t>(GetParam()));
}

// However long the groups being quantized, the loops of jobs advance.
TEST_P(WorkerPoolTest, ALoopOfAWaitingThreadAdvancesWhileEveryWorkerIsInALongLoop) {
  WorkerPool pool(GetParam());
  CancelToken stop;
  std::atomic<bool> advanced{false};
  std::latch inside(GetParam());
  std::latch done(GetParam());
  for (int i = 0; i < GetParam(); ++i) {
    pool.Submit(WorkerPool::Lane::kLong, [&] {
      inside.count_down();
      const absl::Status status = pool.ForEach(stop, 1'000'000'000, [&](int64_t) {
        std::this_thread::yield();
        return advanced.load() ? absl::AbortedError("seen") : absl::OkStatus();
      });
      EXPECT_TRUE(absl::IsAborted(status));
      done.count_down();
    });
  }
  inside.wait();
  EXPECT_TRUE(pool.ForEach(stop, 10,
                           [&](int64_t i) {
                             if (i == 9) advanced = true;
                             return absl::OkStatus();
                           })
                  .ok());
  done.wait();
}

// With every worker busy elsewhere nobody would notice the stop but the waiting thread itself.
TEST(WorkerPoolOrderTest, AWaitingThreadReturnsWhenStoppedThoughNoWorkerIsFree) {
  WorkerPool pool(1);
  CancelToken stop;
  std::latch release(1);
  pool.Submit(WorkerPool::Lane::kLong, [&] { release.wait(); });
  std::thread stopper([&] { stop.Cancel(); });
  EXPECT_TRUE(absl::IsCancelled(pool.ForEach(stop, 3, [](int64_t) { return absl::OkStatus(); })));
  release.count_down();
  stopper.join();
}

// Two loops and one helper: the helper serves both in turn.
TEST(WorkerPoolOrderTest, WorkersThatJoinLoopsTakeThemInTurn) {
  WorkerPool pool(3);
  CancelToken stop;
  std::mutex mu;
  std::thread::id callers[2];
  std::set<int> helped;  // A thread other than the caller worked for these loops.
  std::latch done(2);
  for (int loop = 0; loop < 2; ++loop) {
    pool.Submit(WorkerPool::Lane::kLong, [&, loop] {
      callers[loop] = std::this_thread::get_id();
      const absl::Status status = pool.ForEach(stop, 1'000'000'000, [&, loop](int64_t) {
        std::lock_guard<std::mutex> lock(mu);
        if (std::this_thread::get_id() != callers[loop]) helped.insert(loop);
        return helped.size() == 2 ? absl::AbortedError("both") : absl::OkStatus();
      });
      EXPECT_TRUE(absl::IsAborted(status));
      done.count_down();
    });
  }
  done.wait();
  EXPECT_EQ(helped.size(), 2u);
}

// Two jobs with loops of equal items: neither waits for the other's loop to end.
TEST(WorkerPoolOrderTest, LoopsOfTwoJobsHaveItemsByTurns) {
  constexpr int kItems = 500;  // Both have so many, from when both had one.
  WorkerPool pool(1);
  const CancelToken stop;
  int done[2] = {0, 0};  // They are those of the only worker.
  int from[2] = {0, 0};
  int largest_lead = 0;
  const auto job = [&](int mine) {
    const absl::Status status = pool.ForEach(stop, 1'000'000'000, [&, mine](int64_t) {
      ++done[mine];
      if (done[0] == 0 || done[1] == 0) return absl::OkStatus();
      if (from[0] == 0) std::copy(done, done + 2, from);
      const int items[2] = {done[0] - from[0], done[1] - from[1]};
      // Whichever ends first, the other is then alone.
      if (items[0] + items[1] >= kItems) return absl::AbortedError("enough");
      largest_lead = std::max(largest_lead, std::abs(items[0] - items[1]));
      return absl::OkStatus();
    });
    EXPECT_TRUE(absl::IsAborted(status));
  };
  std::thread other([&] { job(1); });
  job(0);
  other.join();
  EXPECT_EQ(largest_lead, 1);
}

TEST(WorkerPoolStatsTest, BusyTimeGrowsInsideALongTask) {
  WorkerPool pool(1);
  CancelToken stop;
  EXPECT_EQ(pool.GetStats().busy_seconds.size(), 1u);
  std::vector<double> seen;
  RunLong(pool, [&] {
    (void)pool.ForEach(stop, 1000, [&](int64_t) {
      seen.push_back(pool.GetStats().busy_seconds[0]);
      return absl::OkStatus();
    });
  });
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_GT(seen.back(), seen.front());
}

}  // namespace
}  // namespace salient
