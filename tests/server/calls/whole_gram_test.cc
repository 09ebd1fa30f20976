// Calls whose rounding needs the whole X^T X: what they keep, reserve and refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/statistics/statistics_file.h"
#include "core/tensor/dtype.h"
#include "server/calls/call_limits.h"
#include "server/calls/call_messages.h"
#include "server/calls/group_check.h"
#include "server/calls/open_group.h"
#include "server/error/call_error.h"
#include "tests/server/calls/scripted_client.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kColumns = 1088;  // Otherwise whole Grams are kept of fewer.

CallOptions Gptq() {
  CallOptions options = SmallOptions();
  options.method.rounding = RoundingChoice::kGptq;
  return options;
}

// Makes a statistics file of 4 tokens of a row, with whole Grams up to `limit` columns.
StatisticsData File(int64_t columns, int64_t limit, int64_t row = 0) {
  StatisticsParams params;
  params.in_features = columns;
  params.exact_gram_limit = limit;
  SerialExecutor serial;
  StatisticsAccumulator accumulator = *StatisticsAccumulator::Create("g", params);
  const std::string tokens = RandomFloats(4 * columns, 5);
  EXPECT_TRUE(
      accumulator
          .Fold(row, 0, DType::kF32, reinterpret_cast<const std::byte*>(tokens.data()), 4, serial)
          .ok());
  const std::vector<std::byte> bytes = *SerializeStatistics(*std::move(accumulator).Finish(serial));
  return {{0, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), {}},
          static_cast<int64_t>(bytes.size())};
}

// Files come in chunks.
absl::StatusOr<bool> Add(OpenGroup& group, const StatisticsData& file) {
  constexpr int64_t kChunk = 1 << 20;
  absl::StatusOr<bool> whole = false;
  for (int64_t at = 0; at < file.total_bytes; at += kChunk) {
    whole = group.AddStatistics(
        {{at, file.chunk.data.substr(static_cast<size_t>(at), kChunk), {}}, file.total_bytes});
    if (!whole.ok()) return whole;
  }
  return whole;
}

TEST(WholeGramTest, AFileWithoutItIsRefusedWithWhatToDo) {
  OpenGroup group = *OpenGroup::Create(SmallSpec("g", 16, kColumns), Gptq());
  const absl::Status status = Add(group, File(kColumns, 1024)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(status).reason, Reason::kStatistics);
  EXPECT_THAT(std::string(status.message()), HasSubstr("exact_gram_limit is 1024"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("at least 1088"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("ROUNDING_BLOCK"));
}

TEST(WholeGramTest, AFileWithItServesWhateverItsLimitWas) {
  for (const auto& [columns, limit] : std::vector<std::pair<int64_t, int64_t>>{
           {kColumns, kColumns}, {kColumns, 4096}, {64, 64}, {64, 1024}}) {
    OpenGroup group = *OpenGroup::Create(SmallSpec("g", 16, columns), Gptq());
    const absl::StatusOr<bool> whole = Add(group, File(columns, limit));
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_TRUE(*whole);
    ASSERT_TRUE(group.AddWeight(SmallWeight(group.spec())).ok());
    SerialExecutor serial;
    const absl::StatusOr<ClosedGroup> closed = std::move(group).Close(serial);
    ASSERT_TRUE(closed.ok()) << closed.status();
    const absl::StatusOr<GroupResult> result = closed->Quantize(Gptq(), serial);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_TRUE(result->report.exact_loss);
  }
}

// Blocks can be cut out of it, and its loss is no estimate.
TEST(WholeGramTest, AFileWithItServesCallsThatHaveNoNeedOfIt) {
  SerialExecutor serial;
  OpenGroup group = *OpenGroup::Create(SmallSpec("g", 16, kColumns), SmallOptions());
  EXPECT_EQ(group.whole_gram_bytes(), 0);
  for (const int64_t row : {0, 1}) {
    const absl::StatusOr<bool> whole = Add(group, File(kColumns, kColumns + 8 * row, row));
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_TRUE(*whole);
  }
  ASSERT_TRUE(group.AddActivations(SmallRow(group.spec(), 2), serial).ok());
  ASSERT_TRUE(group.AddWeight(SmallWeight(group.spec())).ok());
  // X^T X in f64, and in f32 in the loss, less blocks and a sketch.
  EXPECT_GT(group.whole_gram_bytes(), kColumns * (kColumns - 512) * (8 + 4));
  const absl::StatusOr<ClosedGroup> closed = std::move(group).Close(serial);
  ASSERT_TRUE(closed.ok()) << closed.status();
  EXPECT_EQ(closed->statistics.token_count, 4 + 4 + 8);
  const absl::StatusOr<GroupResult> result = closed->Quantize(SmallOptions(), serial);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->report.exact_loss);
}

TEST(WholeGramTest, RoomForItIsReservedWithTheFile) {
  const OpenGroup group = *OpenGroup::Create(SmallSpec("g", 16, kColumns), SmallOptions());
  const auto beside = [&](const StatisticsData& file) {
    const absl::StatusOr<int64_t> bytes = group.StatisticsMemoryBytes(file, CallLimits());
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    return bytes.value_or(0) - file.total_bytes;
  };
  EXPECT_GT(beside(File(kColumns, kColumns)) - beside(File(kColumns, 1024)),
            kColumns * (kColumns - 512) * (8 + 4));
}

TEST(WholeGramTest, WholeGramsAndBlocksDoNotAdd) {
  OpenGroup blocks_first = *OpenGroup::Create(SmallSpec("g", 16, kColumns), SmallOptions());
  ASSERT_TRUE(Add(blocks_first, File(kColumns, 1024)).ok());
  const absl::Status late = Add(blocks_first, File(kColumns, kColumns, 1)).status();
  EXPECT_EQ(DetailsOf(late).reason, Reason::kStatistics);
  EXPECT_THAT(std::string(late.message()),
              HasSubstr("keeps the whole X^T X; expected its diagonal"));

  OpenGroup gram_first = *OpenGroup::Create(SmallSpec("g", 16, kColumns), SmallOptions());
  ASSERT_TRUE(Add(gram_first, File(kColumns, kColumns)).ok());
  const absl::Status other = Add(gram_first, File(kColumns, 1024, 1)).status();
  EXPECT_EQ(DetailsOf(other).reason, Reason::kStatistics);
  EXPECT_THAT(std::string(other.message()), HasSubstr("as in the file that came first"));
}

TEST(WholeGramTest, ReservesRoomForIt) {
  const GroupSpec spec = SmallSpec("g", 16, 4096);
  const auto bytes = [&](const CallOptions& options) {
    const absl::StatusOr<int64_t> needed = GroupMemoryBytes(spec, options, CallLimits(), 2);
    EXPECT_TRUE(needed.ok()) << needed.status();
    return needed.value_or(0);
  };
  // Sums in f64, in the loss in f32, and the matrix that is factored.
  EXPECT_GT(bytes(Gptq()) - bytes(SmallOptions()), int64_t{4096} * 4096 * 10);
}

TEST(WholeGramTest, WhatIsTooWideForItIsRefused) {
  CallLimits limits;
  limits.max_features = 1 << 20;
  const GroupSpec spec = SmallSpec("g", 16, 1 << 16);
  EXPECT_TRUE(CheckGroup(spec, SmallOptions(), limits).ok());
  const absl::Status status = CheckGroup(spec, Gptq(), limits);
  EXPECT_EQ(DetailsOf(status).reason, Reason::kBadHeader);
  EXPECT_THAT(std::string(status.message()), HasSubstr("in_features is 65536"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("32768"));
}

}  // namespace
}  // namespace salient
