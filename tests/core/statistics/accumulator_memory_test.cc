// What an accumulator really allocates, counted where memory is handed out.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/statistics/accumulator.h"
#include "tests/support/calibration_rows.h"

namespace {

int64_t live = 0;
int64_t peak = 0;

void* Count(void* p) {
  if (p == nullptr) std::abort();
  live += static_cast<int64_t>(malloc_usable_size(p));
  peak = live > peak ? live : peak;
  return p;
}

void Uncount(void* p) {
  if (p != nullptr) live -= static_cast<int64_t>(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

void* operator new(size_t size) { return Count(std::malloc(size)); }
void* operator new(size_t size, std::align_val_t align) {
  const auto alignment = static_cast<size_t>(align);
  return Count(std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment));
}
void operator delete(void* p) noexcept { Uncount(p); }
void operator delete(void* p, size_t) noexcept { Uncount(p); }
void operator delete(void* p, std::align_val_t) noexcept { Uncount(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { Uncount(p); }

namespace salient {
namespace {

void AccumulateSomething(const StatisticsParams& params,
                         const std::vector<testing::CalibrationRow>& rows) {
  SerialExecutor serial;
  auto accumulator = StatisticsAccumulator::Create("g", params);
  ASSERT_TRUE(accumulator.ok());
  for (const auto& row : rows) {
    ASSERT_TRUE(testing::FoldRow(
                    *accumulator, row, [] { return 100; }, serial)
                    .ok());
  }
  ASSERT_TRUE((*std::move(accumulator)).Finish(serial).ok());
}

// Property: MemoryBytes bounds what is held, and not by much.
void ExpectHonest(const StatisticsParams& params) {
  LimitThreadToItself();
  const auto rows = testing::MakeRows(1, params.in_features, {400, 130});
  // The first time, the matrix library makes its kernels, which it keeps.
  AccumulateSomething(params, rows);
  const int64_t before = live;
  peak = live;
  AccumulateSomething(params, rows);
  const int64_t held = peak - before;
  const int64_t promised = StatisticsAccumulator::MemoryBytes(params);
  EXPECT_LE(held, promised + 65536) << "for small parts and alignment";
  EXPECT_GE(static_cast<double>(held), 0.7 * static_cast<double>(promised));
}

TEST(AccumulatorMemoryTest, ExactGram) {
  StatisticsParams params;
  params.in_features = 1000;
  ExpectHonest(params);
}

TEST(AccumulatorMemoryTest, BlocksAndSketchNeverHoldAWholeGram) {
  StatisticsParams params;
  params.in_features = 4096;
  ExpectHonest(params);
  // 4096^2 f32, the least a whole Gram could take.
  EXPECT_LT(StatisticsAccumulator::MemoryBytes(params), 4096 * 4096 * 4);
}

}  // namespace
}  // namespace salient
