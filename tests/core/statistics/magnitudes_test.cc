// Checks that statistics of activations of any magnitude are as precise as those of ordinary ones,
// and the same bytes however rows came.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/statistics/statistics_file.h"
#include "core/tensor/dtype.h"
#include "tests/core/statistics/small_accumulator.h"
#include "tests/support/calibration_rows.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::CalibrationRow;

// The spread says which magnitudes differ, by powers of two from 2^-60 to 2^60.
enum class Spread { kNone, kAllTiny, kAllHuge, kRows, kColumns, kBoth };

struct MagnitudeCase {
  std::string name;
  Spread spread;
  StatisticsParams params;
};
void PrintTo(const MagnitudeCase& c, std::ostream* out) { *out << c.name; }

std::vector<CalibrationRow> RowsOf(const MagnitudeCase& c) {
  const int64_t columns = c.params.in_features;
  auto rows = testing::MakeRows(3, columns, {5, 1, 64, 9, 300, 2, 17, 33, 1, 70});
  std::mt19937_64 random(4);
  const auto power = [&](int most) {
    return static_cast<int>(random() % static_cast<uint64_t>(2 * most + 1)) - most;
  };
  std::vector<int> of_column(static_cast<size_t>(columns), 0);
  for (int& k : of_column) {
    if (c.spread == Spread::kColumns) k = power(60);
    if (c.spread == Spread::kBoth) k = power(30);
    if (c.spread == Spread::kAllTiny) k = -60;
    // The square of 300 x 30 x 4 must fit into f32.
    if (c.spread == Spread::kAllHuge) k = 50;
  }
  for (CalibrationRow& row : rows) {
    const int k = c.spread == Spread::kRows ? power(54) : c.spread == Spread::kBoth ? power(24) : 0;
    for (int64_t t = 0; t < row.tokens.rows(); ++t) {
      for (int64_t j = 0; j < columns; ++j) {
        float& x = row.tokens.Row(t)[j];
        x = std::ldexp(x, std::min(54, k + of_column[j]));
      }
    }
  }
  return rows;
}

std::vector<std::byte> BytesOf(const Statistics& statistics) {
  auto bytes = SerializeStatistics(statistics);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return *std::move(bytes);
}

class MagnitudesTest : public ::testing::TestWithParam<MagnitudeCase> {
 protected:
  Statistics Of(const std::vector<size_t>& which, int64_t batch, Executor& executor) const {
    StatisticsAccumulator accumulator = testing::MakeAccumulator(GetParam().params);
    for (const size_t i : which) {
      const absl::Status status = testing::FoldRow(
          accumulator, rows_[i], [&] { return batch; }, executor);
      EXPECT_TRUE(status.ok()) << status;
    }
    auto statistics = std::move(accumulator).Finish(executor);
    EXPECT_TRUE(statistics.ok()) << statistics.status();
    return *std::move(statistics);
  }

  const std::vector<CalibrationRow> rows_ = RowsOf(GetParam());
  testing::ThreadExecutor executor_{3};
};

TEST_P(MagnitudesTest, SumsAreRightRelativeToTheirData) {
  std::vector<size_t> all(rows_.size());
  std::iota(all.begin(), all.end(), 0);
  const Statistics statistics = Of(all, 40, executor_);
  const testing::DirectSums actual = testing::ValuesOf(statistics);
  const testing::DirectSums expected = testing::SumDirectly(testing::Stack(rows_));
  const StatisticsParams& params = GetParam().params;
  const int64_t columns = params.in_features;
  for (int64_t i = 0; i < columns; ++i) {
    ASSERT_NEAR(actual.sum[i], expected.sum[i], 1e-5 * expected.sum_abs[i]) << i;
    ASSERT_NEAR(actual.sum_abs[i], expected.sum_abs[i], 1e-5 * expected.sum_abs[i]) << i;
    const int64_t block = i / params.block_width;
    for (int64_t j = 0; j < columns; ++j) {
      if (!params.ExactGram() && j / params.block_width != block) continue;
      const double product = params.ExactGram()
                                 ? actual.gram[i * columns + j]
                                 : actual.blocks[i * params.block_width + j % params.block_width];
      const double norms =
          std::sqrt(expected.gram[i * columns + i]) * std::sqrt(expected.gram[j * columns + j]);
      // The error is 2^-22 of a bound ten times as large as the only long row, by row.
      ASSERT_NEAR(product, expected.gram[i * columns + j], 5e-5 * norms) << i << ", " << j;
    }
  }
}

TEST_P(MagnitudesTest, OrderCutsAndMergesLeaveNoTrace) {
  std::vector<size_t> order(rows_.size());
  std::iota(order.begin(), order.end(), 0);
  SerialExecutor serial;
  const std::vector<std::byte> reference = BytesOf(Of(order, 1000, serial));

  // Whole rows, at once or one after the other, come in ascending order.
  StatisticsAccumulator whole = testing::MakeAccumulator(GetParam().params);
  for (auto row = rows_.rbegin(); row != rows_.rend(); ++row) {
    const auto* bytes = reinterpret_cast<const std::byte*>(row->tokens.data());
    ASSERT_TRUE(whole.FoldRow(row->index, DType::kF32, bytes, row->tokens.rows(), executor_).ok());
  }
  EXPECT_TRUE(BytesOf(*std::move(whole).Finish(executor_)) == reference);

  std::mt19937_64 random(5);
  for (int round = 0; round < 12; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    std::vector<std::vector<size_t>> cut(1 + random() % 6);
    for (const size_t i : order) cut[random() % cut.size()].push_back(i);
    std::vector<Statistics> parts;
    for (const std::vector<size_t>& own : cut) {
      if (own.empty()) continue;
      parts.push_back(Of(own, static_cast<int64_t>(1 + random() % 80), executor_));
    }
    while (parts.size() > 1) {
      const size_t at = random() % (parts.size() - 1);
      const auto sent = ParseStatistics("part", BytesOf(parts.back()));
      ASSERT_TRUE(sent.ok()) << sent.status();
      parts.pop_back();
      ASSERT_TRUE(MergeStatistics("g", *sent, parts[at]).ok());
    }
    ASSERT_TRUE(BytesOf(parts[0]) == reference) << round;
  }
}

std::vector<MagnitudeCase> MagnitudeCases() {
  std::vector<MagnitudeCase> cases;
  const std::pair<const char*, Spread> spreads[] = {
      {"None", Spread::kNone}, {"AllTiny", Spread::kAllTiny}, {"AllHuge", Spread::kAllHuge},
      {"Rows", Spread::kRows}, {"Columns", Spread::kColumns}, {"Both", Spread::kBoth}};
  for (const auto& [name, spread] : spreads) {
    cases.push_back({std::string(name) + "Gram", spread, {75, 32, 64, 1024, 16, 5}});
    cases.push_back({std::string(name) + "Blocks", spread, {75, 32, 64, 0, 16, 5}});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Spreads, MagnitudesTest, ::testing::ValuesIn(MagnitudeCases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace salient
