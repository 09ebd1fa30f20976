#include "core/statistics/accumulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/statistics/small_accumulator.h"
#include "tests/support/calibration_rows.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using ::testing::AllOf;
using testing::CalibrationRow;
using testing::FoldF32;
using testing::FoldRow;
using ::testing::HasSubstr;
using testing::MakeAccumulator;
using testing::ParamsOf;

TEST(AccumulatorTest, OneRowHasOneDType) {
  SerialExecutor serial;
  const std::vector<float> tokens(2 * 16);
  const auto* bytes = reinterpret_cast<const std::byte*>(tokens.data());
  StatisticsAccumulator accumulator = MakeAccumulator(ParamsOf(16));
  ASSERT_TRUE(accumulator.Fold(0, 0, DType::kF32, bytes, 2, serial).ok());
  ASSERT_TRUE(accumulator.Fold(1, 0, DType::kBF16, bytes, 2, serial).ok());
  const absl::Status status = accumulator.Fold(1, 2, DType::kF16, bytes, 2, serial);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("row 1 at position 2 are F16"), HasSubstr("expected BF16")));
}

TEST(AccumulatorTest, NonFiniteActivationsAreNamed) {
  struct Case {
    int64_t position, column;
    float value;
    const char* text;
  };
  // 1100 columns: enough that the batch is handed out.
  const Case cases[] = {{0, 0, std::nanf(""), "nan"},
                        {83, 1099, std::numeric_limits<float>::infinity(), "inf"},
                        {40, 700, -std::numeric_limits<float>::infinity(), "-inf"}};
  testing::ThreadExecutor threads(2);
  for (const Case& c : cases) {
    auto rows = testing::MakeRows(6, 1100, {84, 84});
    CalibrationRow& row = rows[1];
    row.tokens.Row(c.position)[c.column] = c.value;
    if (c.position + 1 < 84) row.tokens.Row(c.position + 1)[3] = c.value;  // a later one
    StatisticsAccumulator accumulator = MakeAccumulator(ParamsOf(1100));
    ASSERT_TRUE(FoldRow(
                    accumulator, rows[0], [] { return 84; }, threads)
                    .ok());
    const absl::Status status = FoldRow(
        accumulator, row, [] { return 84; }, threads);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("layers.0.mlp"), HasSubstr("row 1,"),
                      HasSubstr("position " + std::to_string(c.position) + ","),
                      HasSubstr("column " + std::to_string(c.column) + " is " + c.text + ";")));
    // Unusable from now on, and it keeps saying why.
    EXPECT_EQ(FoldRow(
                  accumulator, rows[0], [] { return 84; }, threads),
              status);
    EXPECT_EQ(std::move(accumulator).Finish(threads).status(), status);
  }
}

TEST(AccumulatorTest, ActivationsWhoseSquaresOverflowAreNamed) {
  SerialExecutor serial;
  auto rows = testing::MakeRows(7, 300, {10});
  rows[0].tokens.Row(4)[271] = 1e19f;
  StatisticsAccumulator accumulator = MakeAccumulator(ParamsOf(300));
  ASSERT_TRUE(FoldRow(
                  accumulator, rows[0], [] { return 10; }, serial)
                  .ok());
  const absl::Status status = std::move(accumulator).Finish(serial).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("row 0"), HasSubstr("column 271")));
}

TEST(AccumulatorTest, PositionsAndRowsComeInOrderOrAreRefused) {
  const std::vector<float> tokens(4 * 16, 1.0f);
  struct Case {
    const char* what;
    std::vector<std::vector<int64_t>> batches;  // {row, position, tokens}; the last one fails
    absl::StatusCode code;
    const char* message;
  };
  const Case cases[] = {
      {"new row not from 0",
       {{3, 1, 2}},
       absl::StatusCode::kOutOfRange,
       "row 3 begins at position 1; expected 0"},
      {"hole", {{3, 0, 2}, {3, 3, 1}}, absl::StatusCode::kOutOfRange, "position 3; expected 2"},
      {"repeated position",
       {{3, 0, 2}, {3, 1, 1}},
       absl::StatusCode::kOutOfRange,
       "position 1; expected 2"},
      {"row again",
       {{3, 0, 2}, {4, 0, 2}, {3, 0, 2}},
       absl::StatusCode::kFailedPrecondition,
       "row 3 was counted before"},
      {"row continued too late",
       {{3, 0, 2}, {4, 0, 2}, {3, 2, 2}},
       absl::StatusCode::kFailedPrecondition,
       "row 3 was counted before"},
      {"no tokens", {{3, 0, 0}}, absl::StatusCode::kInvalidArgument, "0 tokens"},
      {"negative tokens", {{3, 0, -1}}, absl::StatusCode::kInvalidArgument, "-1 tokens"},
      {"negative row", {{-1, 0, 1}}, absl::StatusCode::kInvalidArgument, "row is -1"},
      {"last row", {{INT64_MAX, 0, 1}}, absl::StatusCode::kInvalidArgument, "9223372036854775807"},
  };
  SerialExecutor serial;
  for (const Case& c : cases) {
    StatisticsAccumulator accumulator = MakeAccumulator(ParamsOf(16));
    absl::Status status;
    for (const auto& batch : c.batches) {
      EXPECT_TRUE(status.ok()) << c.what;
      status = FoldF32(accumulator, batch[0], batch[1], tokens.data(), batch[2], serial);
    }
    EXPECT_EQ(status.code(), c.code) << c.what;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("layers.0.mlp"), HasSubstr(c.message)));
  }
}

TEST(AccumulatorTest, OtherDTypesAndNoTokensAreErrors) {
  SerialExecutor serial;
  const std::vector<float> tokens(16, 1.0f);
  const auto* bytes = reinterpret_cast<const std::byte*>(tokens.data());
  StatisticsAccumulator integers = MakeAccumulator(ParamsOf(8));
  const absl::Status status = integers.Fold(0, 0, DType::kI32, bytes, 1, serial);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("I32"));

  StatisticsAccumulator empty = MakeAccumulator(ParamsOf(8));
  EXPECT_EQ(std::move(empty).Finish(serial).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(AccumulatorTest, ParamsOutOfRangeAreNamed) {
  struct Case {
    const char* param;
    int64_t StatisticsParams::*field;
    std::vector<int64_t> bad;
  };
  const Case cases[] = {{"in_features", &StatisticsParams::in_features, {0, -1, INT64_MAX}},
                        {"block_width", &StatisticsParams::block_width, {0, 4, 100, 2048}},
                        {"sketch_rows", &StatisticsParams::sketch_rows, {0, -3, INT64_MAX}},
                        {"exact_gram_limit", &StatisticsParams::exact_gram_limit, {-1, INT64_MAX}},
                        {"sample_tokens", &StatisticsParams::sample_tokens, {-1, INT64_MAX}}};
  for (const Case& c : cases) {
    for (const int64_t bad : c.bad) {
      StatisticsParams params = ParamsOf(64);
      params.*c.field = bad;
      const absl::Status status = StatisticsAccumulator::Create("g", params).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("g: "), HasSubstr(c.param), HasSubstr(std::to_string(bad))));
      EXPECT_EQ(StatisticsAccumulator::MemoryBytes(params), INT64_MAX);
    }
  }
}

TEST(AccumulatorTest, CancellationEndsIt) {
  const auto rows = testing::MakeRows(8, 300, {300});
  testing::ThreadExecutor threads(2);
  StatisticsAccumulator accumulator = MakeAccumulator(ParamsOf(300));
  threads.Cancel();
  EXPECT_EQ(FoldRow(
                accumulator, rows[0], [] { return 300; }, threads)
                .code(),
            absl::StatusCode::kCancelled);
  SerialExecutor serial;
  EXPECT_EQ(std::move(accumulator).Finish(serial).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace salient
