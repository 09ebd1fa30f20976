// Measures what an accumulator really allocates, counted where memory is handed out.
#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "tests/support/calibration_rows.h"
#include "tests/support/counted_allocation.h"

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
  const int64_t before = testing::live_bytes;
  testing::peak_bytes = testing::live_bytes;
  AccumulateSomething(params, rows);
  const int64_t held = testing::peak_bytes - before;
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

// Rows that came before the one that is to be added first hold their sums.
TEST(AccumulatorMemoryTest, RowsThatWaitAreCounted) {
  LimitThreadToItself();
  StatisticsParams params;
  params.in_features = 1500;
  const auto rows = testing::MakeRows(1, params.in_features, {90, 90, 90, 90});
  SerialExecutor serial;
  const auto fold = [&] {
    auto accumulator = StatisticsAccumulator::Create("g", params);
    ASSERT_TRUE(accumulator.ok());
    for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
      const auto* bytes = reinterpret_cast<const std::byte*>(row->tokens.data());
      ASSERT_TRUE(accumulator->FoldRow(row->index, DType::kF32, bytes, 90, serial).ok());
    }
  };
  fold();
  const int64_t before = testing::live_bytes;
  testing::peak_bytes = testing::live_bytes;
  fold();
  const int64_t held = testing::peak_bytes - before;
  const int64_t promised = StatisticsAccumulator::MemoryBytes(params, 4);
  EXPECT_LE(held, promised + 65536) << "for small parts and alignment";
  EXPECT_GE(static_cast<double>(held), 0.7 * static_cast<double>(promised));
}

}  // namespace
}  // namespace salient
