// Checks that the same tokens give the same bytes, however they came.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/statistics/statistics_file.h"
#include "tests/support/calibration_rows.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using ::testing::AllOf;
using testing::CalibrationRow;
using testing::FoldRow;
using ::testing::HasSubstr;

constexpr auto kWhole = [] { return int64_t{1} << 40; };

std::vector<std::byte> Bytes(const Statistics& statistics) {
  auto bytes = SerializeStatistics(statistics);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return *std::move(bytes);
}

// The statistics of rows[order[0]], rows[order[1]] ...
template <typename BatchSize>
Statistics AccumulateCut(const StatisticsParams& params, const std::vector<CalibrationRow>& rows,
                         const std::vector<size_t>& order, BatchSize batch_size,
                         Executor& executor) {
  auto accumulator = StatisticsAccumulator::Create("g", params);
  EXPECT_TRUE(accumulator.ok()) << accumulator.status();
  for (const size_t i : order) {
    const absl::Status status = FoldRow(*accumulator, rows[i], batch_size, executor);
    EXPECT_TRUE(status.ok()) << status;
  }
  auto statistics = (*std::move(accumulator)).Finish(executor);
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  return *std::move(statistics);
}

class DeterminismTest : public ::testing::TestWithParam<StatisticsParams> {
 protected:
  DeterminismTest() {
    LimitThreadToItself();
    order_.resize(rows_.size());
    std::iota(order_.begin(), order_.end(), 0);
  }

  // Whole rows in order, on one thread: what all others must equal.
  std::vector<std::byte> Reference() {
    return Bytes(AccumulateCut(params_, rows_, order_, kWhole, serial_));
  }

  // Rows of very different size, so that plain f64 sums would depend on their order.
  static std::vector<CalibrationRow> MakeUnevenRows(int64_t in_features) {
    auto rows =
        testing::MakeRows(1, in_features, {512, 1, 63, 64, 65, 256, 257, 300, 2, 128, 200, 90});
    for (CalibrationRow& row : rows) {
      const float scale = std::pow(0.05f, static_cast<float>(row.index % 5));
      for (int64_t i = 0; i < row.tokens.rows() * in_features; ++i) row.tokens.data()[i] *= scale;
    }
    return rows;
  }

  const StatisticsParams params_ = GetParam();
  const std::vector<CalibrationRow> rows_ = MakeUnevenRows(params_.in_features);
  std::vector<size_t> order_;
  SerialExecutor serial_;
  std::mt19937 random_{2};
};

TEST_P(DeterminismTest, BatchesLeaveNoTrace) {
  const std::vector<std::byte> reference = Reference();
  for (const int threads : {1, 2, 3}) {
    testing::ThreadExecutor executor(threads);
    const auto random_size = [&] { return static_cast<int64_t>(1 + random_() % 97); };
    EXPECT_TRUE(Bytes(AccumulateCut(params_, rows_, order_, random_size, executor)) == reference)
        << threads;
    EXPECT_TRUE(Bytes(AccumulateCut(params_, rows_, order_, kWhole, executor)) == reference)
        << threads;
  }
  const auto one = [] { return int64_t{1}; };
  EXPECT_TRUE(Bytes(AccumulateCut(params_, rows_, order_, one, serial_)) == reference);
}

TEST_P(DeterminismTest, OrderOfRowsLeavesNoTrace) {
  const std::vector<std::byte> reference = Reference();
  for (int round = 0; round < 3; ++round) {
    std::shuffle(order_.begin(), order_.end(), random_);
    EXPECT_TRUE(Bytes(AccumulateCut(params_, rows_, order_, kWhole, serial_)) == reference);
  }
}

TEST_P(DeterminismTest, SevenPartsMergedInAnyOrderLeaveNoTrace) {
  const std::vector<std::byte> reference = Reference();
  testing::ThreadExecutor executor(2);
  for (int round = 0; round < 3; ++round) {
    std::shuffle(order_.begin(), order_.end(), random_);
    std::vector<Statistics> parts;
    for (size_t part = 0; part < 7; ++part) {
      std::vector<size_t> own;
      for (size_t i = part; i < order_.size(); i += 7) own.push_back(order_[i]);
      parts.push_back(AccumulateCut(
          params_, rows_, own, [] { return int64_t{97}; }, executor));
    }
    std::shuffle(parts.begin(), parts.end(), random_);

    Statistics total = EmptyStatistics(params_);
    for (const Statistics& part : parts) ASSERT_TRUE(MergeStatistics("g", part, total).ok());
    EXPECT_TRUE(Bytes(total) == reference);

    // Over the wire, and into an accumulator that has a row of its own open.
    const size_t last = order_.back();
    const auto own = std::find_if(parts.begin(), parts.end(), [&](const Statistics& part) {
      return part.rows.Contains(rows_[last].index);
    });
    auto accumulator = StatisticsAccumulator::Create("g", params_);
    ASSERT_TRUE(accumulator.ok());
    ASSERT_TRUE(FoldRow(
                    *accumulator, rows_[last], [] { return int64_t{50}; }, executor)
                    .ok());
    for (auto part = parts.begin(); part != parts.end(); ++part) {
      if (part == own) continue;
      const auto received = ParseStatistics("part", Bytes(*part));
      ASSERT_TRUE(received.ok()) << received.status();
      ASSERT_TRUE(accumulator->Merge(*received).ok());
    }
    for (const size_t i : order_) {
      if (i == last || !own->rows.Contains(rows_[i].index)) continue;
      ASSERT_TRUE(FoldRow(*accumulator, rows_[i], kWhole, executor).ok());
    }
    const auto finished = (*std::move(accumulator)).Finish(executor);
    ASSERT_TRUE(finished.ok()) << finished.status();
    EXPECT_TRUE(Bytes(*finished) == reference);
  }
}

TEST_P(DeterminismTest, OverlapIsRefusedAndChangesNothing) {
  const Statistics a = AccumulateCut(params_, rows_, {0, 1, 2}, kWhole, serial_);
  const Statistics b = AccumulateCut(params_, rows_, {2, 3}, kWhole, serial_);
  Statistics total = a;
  const absl::Status status = MergeStatistics("layers.7", b, total);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("layers.7"), HasSubstr("calibration row 2 ")));
  EXPECT_TRUE(Bytes(total) == Bytes(a));

  // The open row counts too, and the accumulator goes on as if nothing had been tried.
  auto accumulator = StatisticsAccumulator::Create("g", params_);
  ASSERT_TRUE(accumulator.ok());
  ASSERT_TRUE(FoldRow(*accumulator, rows_[1], kWhole, serial_).ok());
  ASSERT_TRUE(FoldRow(*accumulator, rows_[2], kWhole, serial_).ok());
  EXPECT_EQ(accumulator->Merge(b).code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(FoldRow(*accumulator, rows_[0], kWhole, serial_).ok());
  EXPECT_TRUE(Bytes(*(*std::move(accumulator)).Finish(serial_)) == Bytes(a));
}

TEST_P(DeterminismTest, OtherParamsDoNotMerge) {
  const Statistics part = AccumulateCut(params_, rows_, {0}, kWhole, serial_);
  for (int64_t StatisticsParams::*field :
       {&StatisticsParams::block_width, &StatisticsParams::sketch_rows,
        &StatisticsParams::exact_gram_limit, &StatisticsParams::sample_tokens}) {
    StatisticsParams params = params_;
    params.*field += 8;
    Statistics total = EmptyStatistics(params);
    EXPECT_EQ(MergeStatistics("g", part, total).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(total.token_count, 0);
  }
  StatisticsParams params = params_;
  params.seed += 1;
  Statistics total = EmptyStatistics(params);
  EXPECT_EQ(MergeStatistics("g", part, total).code(), absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Shapes, DeterminismTest,
                         ::testing::Values(StatisticsParams{172, 256, 256, 1024, 64, 0},
                                           StatisticsParams{500, 256, 256, 512, 0, 1},
                                           StatisticsParams{600, 256, 256, 512, 256, 2},
                                           StatisticsParams{300, 128, 100, 128, 5000, UINT64_MAX}),
                         [](const auto& shape) {
                           return "InFeatures" + std::to_string(shape.param.in_features);
                         });

}  // namespace
}  // namespace salient
