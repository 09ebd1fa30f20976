// Checks what of the process's memory a job is refused for, and who is told to come again.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "server/error/call_error.h"
#include "server/jobs/job_table.h"
#include "server/process/memory.h"
#include "server/workers/cancel_token.h"
#include "tests/server/jobs/job_table_fixture.h"

namespace salient {
namespace {

using testing::ExpectReason;
using testing::JobBench;
using testing::Must;

constexpr int64_t kMiB = int64_t{1} << 20;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kAllocatorOfLibc = false;
#else
constexpr bool kAllocatorOfLibc = true;
#endif

// This is memory in pieces too small to be mapped one by one, all of them touched. Between them are
// pins, which stay when the pieces go: the heap cannot shrink below the last.
struct Heap {
  explicit Heap(int64_t bytes) {
    constexpr int64_t kPiece = int64_t{16} << 10;
    for (int64_t made = 0; made < bytes; made += kPiece) {
      auto piece = std::make_unique<char[]>(kPiece);
      std::memset(piece.get(), 1, kPiece);
      (made % kMiB == 0 ? pins : pieces).push_back(std::move(piece));
    }
  }

  std::vector<std::unique_ptr<char[]>> pieces;
  std::vector<std::unique_ptr<char[]>> pins;
};

class JobMemoryTest : public testing::JobTableFixture {
 protected:
  // Makes a table with room for the job in the process as it is now.
  std::unique_ptr<JobBench> BenchWithRoom() {
    JobBench wide;
    const int64_t bytes =
        Must(wide.table().Submit(Spec(), "", "", true)).estimate.peak_memory_bytes;
    return std::make_unique<JobBench>(
        1, [bytes](JobTableSettings& settings) { settings.memory_bytes = bytes + 32 * kMiB; });
  }
};

TEST_F(JobMemoryTest, WhatTheAllocatorKeepsIsNoReasonToRefuse) {
  if (!kAllocatorOfLibc) GTEST_SKIP() << "SKIPPED: a sanitizer's allocator keeps what was freed";
  const auto bench = BenchWithRoom();
  Heap heap(128 * kMiB);
  const int64_t resident = ResidentMemoryBytes();
  heap.pieces.clear();
  ASSERT_GT(ResidentMemoryBytes(), resident - 32 * kMiB) << "the allocator keeps nothing";
  const auto job = bench->table().Submit(Spec(), "", "", true);
  EXPECT_TRUE(job.ok()) << job.status();
  EXPECT_LT(ResidentMemoryBytes(), resident - 64 * kMiB);
}

TEST_F(JobMemoryTest, WhoFitsWhenOthersAreDoneIsToldToComeAgain) {
  if (!kAllocatorOfLibc) GTEST_SKIP() << "SKIPPED: a sanitizer's process grows with each request";
  const auto bench = BenchWithRoom();
  const Heap in_use(128 * kMiB);
  const absl::Status later = Refusal(*bench, Spec());
  ExpectReason(later, absl::StatusCode::kResourceExhausted, Reason::kMemory);
  EXPECT_TRUE(DetailsOf(later).retry_after.has_value());

  JobBench poor(1, [](JobTableSettings& settings) { settings.memory_bytes = kMiB; });
  const absl::Status never = Refusal(poor, Spec());
  ExpectReason(never, absl::StatusCode::kResourceExhausted, Reason::kMemory);
  EXPECT_FALSE(DetailsOf(never).retry_after.has_value());
}

TEST_F(JobMemoryTest, WorkThatTookMuchLeavesNothingBehind) {
  if (!kAllocatorOfLibc) GTEST_SKIP() << "SKIPPED: a sanitizer's allocator keeps what was freed";
  const int64_t before = ResidentMemoryBytes();
  std::vector<std::unique_ptr<char[]>> pins;
  {
    const TrimmedWork trimmed;
    Heap heap(128 * kMiB);
    pins = std::move(heap.pins);
  }
  EXPECT_LT(ResidentMemoryBytes(), before + 32 * kMiB);
}

TEST_F(JobMemoryTest, ACallerThatIsGoneCostsNoJob) {
  JobBench bench;
  CancelToken stop;
  stop.Expire();
  const absl::Status late = bench.table().Submit(Spec(), "a", "", false, stop).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(late)) << late;
  EXPECT_TRUE(absl::IsNotFound(bench.table().Get("jobs/a").status()));
}

}  // namespace
}  // namespace salient
