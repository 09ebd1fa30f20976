#include "server/workers/stage_clock.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <set>
#include <string>

#include "server/workers/cancel_token.h"
#include "server/workers/worker_pool.h"

namespace salient {
namespace {

// What is counted grows where it is looked at, so that no test depends on how long anything takes.
void PassTime() {
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() == begin) {
  }
}

std::set<Stage> Counted(const StageTimes& times) {
  std::set<Stage> stages;
  const StageSeconds seconds = times.Seconds();
  for (size_t i = 0; i < kStages; ++i) {
    EXPECT_GE(seconds[i], 0);
    if (seconds[i] > 0) stages.insert(static_cast<Stage>(i));
  }
  return stages;
}

TEST(StageTest, EveryStageHasANameOfItsOwn) {
  std::set<std::string> names;
  for (size_t i = 0; i < kStages; ++i) names.emplace(Name(static_cast<Stage>(i)));
  EXPECT_EQ(names.size(), kStages);
  EXPECT_EQ(Name(Stage::kOther), "other");
  EXPECT_EQ(Name(Stage::kScaleSearch), "scale_search");
  EXPECT_EQ(Name(Stage::kWrite), "write");
}

TEST(StageTimesTest, ATotalGetsWhatItsPartsGet) {
  StageTimes total;
  StageTimes one(&total);
  StageTimes two(&total);
  one.Add(Stage::kRead, 1'000'000'000);
  two.Add(Stage::kRead, 2'000'000'000);
  two.Add(Stage::kLoss, 500'000'000);
  const auto read = static_cast<size_t>(Stage::kRead);
  EXPECT_DOUBLE_EQ(one.Seconds()[read], 1);
  EXPECT_DOUBLE_EQ(two.Seconds()[read], 2);
  EXPECT_DOUBLE_EQ(total.Seconds()[read], 3);
  EXPECT_DOUBLE_EQ(total.Seconds()[static_cast<size_t>(Stage::kLoss)], 0.5);
  EXPECT_EQ(Counted(one), std::set<Stage>{Stage::kRead});
}

class StageOfLoopTest : public ::testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(Workers, StageOfLoopTest, ::testing::Values(1, 2, 5));

TEST_P(StageOfLoopTest, ItemsCountAsTheStageTheirCallerWasIn) {
  WorkerPool pool(GetParam());
  const CancelToken stop;
  PoolExecutor executor(pool, stop);
  const auto loop = [&] {
    return executor.ForEach(7, [](int64_t) {
      PassTime();
      return absl::OkStatus();
    });
  };
  {
    const StageScope stage(executor, Stage::kRounding);
    ASSERT_TRUE(loop().ok());
    EXPECT_EQ(Counted(executor.busy()), std::set<Stage>{Stage::kRounding});
    // Told while it is inside the stage, not only at its end.
    EXPECT_TRUE(Counted(executor.wall()).count(Stage::kRounding));
    const StageScope inner(executor, Stage::kLoss);
    ASSERT_TRUE(loop().ok());
  }
  EXPECT_EQ(Counted(executor.busy()), (std::set<Stage>{Stage::kRounding, Stage::kLoss}));
  EXPECT_EQ(executor.Enter(Stage::kRead), Stage::kOther) << "scopes give back what was before";
  PassTime();
  EXPECT_EQ(executor.Enter(Stage::kOther), Stage::kRead);
  EXPECT_FALSE(Counted(executor.busy()).count(Stage::kRead)) << "no worker worked";
  EXPECT_TRUE(Counted(executor.wall()).count(Stage::kRead));
}

TEST_P(StageOfLoopTest, AnItemMayEnterOtherStagesAndTheNextBeginsInTheLoops) {
  WorkerPool pool(GetParam());
  const CancelToken stop;
  PoolExecutor executor(pool, stop);
  std::atomic<int> begun_in_forward{0};
  {
    const StageScope stage(executor, Stage::kForward);
    ASSERT_TRUE(executor
                    .ForEach(40,
                             [&](int64_t) {
                               PassTime();
                               // It counts as a whole item, and is never taken back.
                               if (executor.Enter(Stage::kStatistics) == Stage::kForward) {
                                 begun_in_forward.fetch_add(1);
                               }
                               PassTime();
                               return absl::OkStatus();
                             })
                    .ok());
  }
  EXPECT_EQ(begun_in_forward.load(), 40);
  EXPECT_EQ(Counted(executor.busy()), (std::set<Stage>{Stage::kForward, Stage::kStatistics}));
}

TEST_P(StageOfLoopTest, ALoopInsideAnItemCountsAsWhatTheItemIsIn) {
  WorkerPool pool(GetParam());
  const CancelToken stop;
  PoolExecutor executor(pool, stop);
  const StageScope stage(executor, Stage::kForward);
  std::atomic<int> others{0};
  ASSERT_TRUE(executor
                  .ForEach(8,
                           [&](int64_t) {
                             const StageScope inner(executor, Stage::kStatistics);
                             return executor.ForEach(5, [&](int64_t) {
                               const Stage here = executor.Enter(Stage::kStatistics);
                               if (here != Stage::kStatistics) others.fetch_add(1);
                               PassTime();
                               return absl::OkStatus();
                             });
                           })
                  .ok());
  EXPECT_EQ(others.load(), 0);
}

// A worker between two items of one call's loop takes messages, and items of a job's loop.
TEST_P(StageOfLoopTest, WorkTakenInBetweenCountsForItself) {
  WorkerPool pool(GetParam());
  const CancelToken stop;
  std::atomic<bool> short_ran{false};
  std::atomic<bool> job_ran{false};
  std::atomic<int> strange{0};
  std::latch inside(GetParam());
  std::latch done(GetParam());
  for (int i = 0; i < GetParam(); ++i) {
    pool.Submit(WorkerPool::Lane::kLong, [&] {
      {
        PoolExecutor call(pool, stop);
        const StageScope stage(call, Stage::kScaleSearch);
        inside.count_down();
        const absl::Status status = call.ForEach(1'000'000'000, [&](int64_t) {
          if (StageClock::OfThisThread().stage() != Stage::kScaleSearch) strange.fetch_add(1);
          PassTime();
          return short_ran && job_ran ? absl::AbortedError("seen") : absl::OkStatus();
        });
        EXPECT_TRUE(absl::IsAborted(status));
        EXPECT_EQ(Counted(call.busy()), std::set<Stage>{Stage::kScaleSearch});
      }
      done.count_down();
    });
  }
  inside.wait();
  pool.Submit(WorkerPool::Lane::kShort, [&] {
    if (StageClock::OfThisThread().stage() != Stage::kOther) strange.fetch_add(1);
    short_ran = true;
  });
  PoolExecutor job(pool, stop);
  const StageScope stage(job, Stage::kForward);
  ASSERT_TRUE(job.ForEach(10,
                          [&](int64_t) {
                            PassTime();
                            return absl::OkStatus();
                          })
                  .ok());
  EXPECT_EQ(Counted(job.busy()), std::set<Stage>{Stage::kForward});
  job_ran = true;
  done.wait();
  EXPECT_EQ(strange.load(), 0);
}

TEST(StageStatsTest, ThePoolCountsAllOfItByWorkerAndByStage) {
  WorkerPool pool(2);
  const CancelToken stop;
  {
    PoolExecutor executor(pool, stop);
    const StageScope stage(executor, Stage::kPack);
    ASSERT_TRUE(executor
                    .ForEach(100,
                             [](int64_t) {
                               PassTime();
                               return absl::OkStatus();
                             })
                    .ok());
  }
  const WorkerPool::Stats stats = pool.GetStats();
  const auto pack = static_cast<size_t>(Stage::kPack);
  EXPECT_GT(stats.stage_busy_seconds[pack], 0);
  EXPECT_GT(stats.stage_wall_seconds[pack], 0);
  EXPECT_NEAR(stats.stage_busy_seconds[pack], stats.busy_seconds[0] + stats.busy_seconds[1], 1e-9)
      << "nothing else ran";
  EXPECT_EQ(stats.stage_busy_seconds[static_cast<size_t>(Stage::kWrite)], 0);
  EXPECT_FALSE(StageClock::OfThisThread().running()) << "the executor's end is the clock's";
}

}  // namespace
}  // namespace salient
