// Whole rows from many threads: the same bytes as batches in order, or an error for everybody.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/statistics/statistics_file.h"
#include "core/tensor/dtype.h"
#include "tests/support/calibration_rows.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::CalibrationRow;
using ::testing::HasSubstr;

StatisticsParams RowParamsOf(int64_t in_features) {
  StatisticsParams params;
  params.in_features = in_features;
  params.exact_gram_limit = 512;
  params.sketch_rows = 64;
  params.sample_tokens = 40;
  params.seed = 5;
  return params;
}

// Long and short rows in turn, so that later rows end before earlier ones; one of massive
// activations, whose sums no f64 holds exactly, so that the order of rows matters.
std::vector<CalibrationRow> UnevenRows(int64_t in_features, float massive = 1e6f) {
  auto rows = testing::MakeRows(3, in_features, {1200, 3, 5, 130, 64, 1, 513, 20, 20, 256, 7, 300});
  for (int64_t i = 0; i < rows[4].tokens.rows() * in_features; ++i) {
    rows[4].tokens.data()[i] *= massive;
  }
  return rows;
}

StatisticsAccumulator MakeRowAccumulator(const StatisticsParams& params) {
  LimitThreadToItself();
  auto accumulator = StatisticsAccumulator::Create("g", params);
  EXPECT_TRUE(accumulator.ok()) << accumulator.status();
  return *std::move(accumulator);
}

absl::Status FoldWhole(StatisticsAccumulator& accumulator, const CalibrationRow& row,
                       Executor& executor) {
  return accumulator.FoldRow(row.index, DType::kF32,
                             reinterpret_cast<const std::byte*>(row.tokens.data()),
                             row.tokens.rows(), executor);
}

std::vector<std::byte> BytesOfStatistics(absl::StatusOr<Statistics> statistics) {
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  auto bytes = SerializeStatistics(*statistics);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return *std::move(bytes);
}

class FoldRowDTypeTest : public ::testing::TestWithParam<DType> {};

// Property: rows folded whole, from any number of threads, give the bytes of batches in order.
TEST_P(FoldRowDTypeTest, RowsFromManyThreadsGiveTheBytesOfBatchesInOrder) {
  const DType dtype = GetParam();
  for (const int64_t in_features : {172, 300, 600}) {
    const StatisticsParams params = RowParamsOf(in_features);
    const auto rows = UnevenRows(in_features, dtype == DType::kF16 ? 100.0f : 1e6f);
    std::vector<std::vector<std::byte>> bytes;
    for (const CalibrationRow& row : rows) bytes.push_back(testing::BytesOf(row.tokens, dtype));
    const int64_t token_bytes = in_features * SizeOf(dtype);

    SerialExecutor serial;
    StatisticsAccumulator batches = MakeRowAccumulator(params);
    for (const CalibrationRow& row : rows) {
      const std::byte* data = bytes[static_cast<size_t>(row.index)].data();
      for (int64_t first = 0; first < row.tokens.rows(); first += 77) {
        const int64_t count = std::min<int64_t>(77, row.tokens.rows() - first);
        const absl::Status status =
            batches.Fold(row.index, first, dtype, data + first * token_bytes, count, serial);
        ASSERT_TRUE(status.ok()) << status;
      }
    }
    const std::vector<std::byte> expected = BytesOfStatistics(std::move(batches).Finish(serial));

    const auto fold = [&](StatisticsAccumulator& accumulator, size_t row, Executor& executor) {
      return accumulator.FoldRow(static_cast<int64_t>(row), dtype, bytes[row].data(),
                                 rows[row].tokens.rows(), executor);
    };
    for (const int threads : {1, 2, 4}) {
      testing::ThreadExecutor executor(threads);
      StatisticsAccumulator accumulator = MakeRowAccumulator(params);
      const absl::Status status =
          executor.ForEach(static_cast<int64_t>(rows.size()), [&](int64_t row) {
            SerialExecutor own;
            return fold(accumulator, static_cast<size_t>(row), own);
          });
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_TRUE(BytesOfStatistics(std::move(accumulator).Finish(executor)) == expected)
          << in_features << " columns, " << threads << " threads";
    }
    // One row at a time, its work spread; and at an odd address.
    testing::ThreadExecutor executor(2);
    for (const size_t shift : {0, 1}) {
      StatisticsAccumulator accumulator = MakeRowAccumulator(params);
      for (size_t row = 0; row < rows.size(); ++row) {
        std::vector<std::byte> shifted(shift + bytes[row].size());
        std::copy(bytes[row].begin(), bytes[row].end(), shifted.begin() + shift);
        const absl::Status status =
            accumulator.FoldRow(static_cast<int64_t>(row), dtype, shifted.data() + shift,
                                rows[row].tokens.rows(), executor);
        ASSERT_TRUE(status.ok()) << status;
      }
      EXPECT_TRUE(BytesOfStatistics(std::move(accumulator).Finish(executor)) == expected)
          << in_features << " columns, shift " << shift;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, FoldRowDTypeTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& dtype) { return std::string(Name(dtype.param)); });

TEST(FoldRowTest, RowsThatEndInAnyOrderAreAddedInAscendingOrder) {
  const StatisticsParams params = RowParamsOf(172);
  const auto rows = UnevenRows(172);
  SerialExecutor serial;
  StatisticsAccumulator ascending = MakeRowAccumulator(params);
  for (const CalibrationRow& row : rows) ASSERT_TRUE(FoldWhole(ascending, row, serial).ok());
  StatisticsAccumulator descending = MakeRowAccumulator(params);
  for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
    ASSERT_TRUE(FoldWhole(descending, *row, serial).ok());
  }
  EXPECT_TRUE(BytesOfStatistics(std::move(ascending).Finish(serial)) ==
              BytesOfStatistics(std::move(descending).Finish(serial)));
}

TEST(FoldRowTest, AfterAnErrorEverybodyGetsAnError) {
  const StatisticsParams params = RowParamsOf(172);
  auto rows = UnevenRows(172);
  rows[3].tokens.Row(128)[100] = std::numeric_limits<float>::infinity();
  testing::ThreadExecutor executor(3);
  StatisticsAccumulator accumulator = MakeRowAccumulator(params);
  const absl::Status status = executor.ForEach(static_cast<int64_t>(rows.size()), [&](int64_t row) {
    SerialExecutor own;
    return FoldWhole(accumulator, rows[static_cast<size_t>(row)], own);
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("row 3, position 128, column 100"));
  SerialExecutor serial;
  EXPECT_EQ(FoldWhole(accumulator, rows[11], serial), status);
  EXPECT_EQ(std::move(accumulator).Finish(serial).status(), status);
}

// It takes seconds to give both triangles of a wide Gram matrix.
TEST(FoldRowTest, TheResultIsCancelledToo) {
  for (const int64_t in_features : {172, 600}) {
    StatisticsAccumulator accumulator = MakeRowAccumulator(RowParamsOf(in_features));
    const auto rows = testing::MakeRows(4, in_features, {9});
    SerialExecutor serial;
    ASSERT_TRUE(FoldWhole(accumulator, rows[0], serial).ok());
    testing::ThreadExecutor executor(2);
    executor.Cancel();
    EXPECT_EQ(std::move(accumulator).Finish(executor).status().code(),
              absl::StatusCode::kCancelled);
  }
}

TEST(FoldRowTest, RowsTwiceOrMissingOrMixedWithBatchesAreRefused) {
  const StatisticsParams params = RowParamsOf(172);
  const auto rows = testing::MakeRows(4, 172, {9, 9, 9});
  SerialExecutor serial;
  const auto message = [](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    return std::string(status.message());
  };

  StatisticsAccumulator twice = MakeRowAccumulator(params);
  ASSERT_TRUE(FoldWhole(twice, rows[1], serial).ok());
  EXPECT_THAT(message(FoldWhole(twice, rows[1], serial)), HasSubstr("row 1 was counted before"));

  StatisticsAccumulator missing = MakeRowAccumulator(params);
  ASSERT_TRUE(FoldWhole(missing, rows[0], serial).ok());
  ASSERT_TRUE(FoldWhole(missing, rows[2], serial).ok());
  EXPECT_THAT(message(std::move(missing).Finish(serial).status()),
              HasSubstr("row 1 never came, but row 2 did"));

  StatisticsAccumulator mixed = MakeRowAccumulator(params);
  ASSERT_TRUE(testing::FoldRow(
                  mixed, rows[0], [] { return 4; }, serial)
                  .ok());
  EXPECT_THAT(message(FoldWhole(mixed, rows[1], serial)), HasSubstr("row 1 came whole"));
  StatisticsAccumulator mixed_later = MakeRowAccumulator(params);
  ASSERT_TRUE(FoldWhole(mixed_later, rows[0], serial).ok());
  EXPECT_THAT(message(testing::FoldRow(
                  mixed_later, rows[1], [] { return 4; }, serial)),
              HasSubstr("row 1 came in batches"));

  StatisticsAccumulator none = MakeRowAccumulator(params);
  EXPECT_EQ(none.FoldRow(0, DType::kF32, nullptr, 0, serial).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace salient
