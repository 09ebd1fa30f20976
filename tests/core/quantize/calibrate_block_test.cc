// Rows side by side and rows one after the other must give the same statistics and states, and
// both those of a forward pass of each row alone.
#include "core/quantize/calibrate_block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/model/activations.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/prepared_block.h"
#include "core/statistics/sum_values.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "tests/core/model/llama_places.h"
#include "tests/core/model/small_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::Must;
using testing::SmallModel;
using testing::TestsDirectory;

// Three threads that claim to be one: a row's tasks are spread, rows are not.
class SpreadExecutor final : public Executor {
 public:
  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override {
    return threads_.ForEach(count, task);
  }
  int Concurrency() const override { return 1; }

 private:
  testing::ThreadExecutor threads_{3};
};

class CalibrateBlockTest : public ::testing::Test {
 protected:
  CalibrateBlockTest()
      : model_(TestsDirectory() + "golden/forward/grouped_query"),
        forward_(model_.plan, ComputeDType::kBF16, 130),
        directory_(::testing::TempDir() + "calibrate_block_test." +
                   ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    LimitThreadToItself();
    std::filesystem::create_directories(directory_);
    block_ = Must(ReadBlock(model_.checkpoint, model_.plan, 0, serial_));
    for (int64_t row = 0; row < 23; ++row) {
      std::vector<int64_t> tokens;
      for (int64_t t = 0; t < 1 + row * 29 % 130; ++t) tokens.push_back((row * 7 + t * 3) % 40);
      rows_.push_back(std::move(tokens));
    }
    entering_.emplace(Must(HiddenStatesFile::Create(directory_ + "/entering", Shape(0))));
    for (size_t row = 0; row < rows_.size(); ++row) {
      const Matrix hidden = Must(EmbedTokens(model_.checkpoint, model_.plan, rows_[row]));
      EXPECT_TRUE(entering_->WriteRow(static_cast<int64_t>(row), hidden).ok());
    }
  }
  ~CalibrateBlockTest() override { std::filesystem::remove_all(directory_); }

  HiddenStatesShape Shape(int64_t layer) const {
    HiddenStatesShape shape{layer, model_.config.hidden_size, {}, "test"};
    for (const auto& row : rows_) shape.lengths.push_back(static_cast<int64_t>(row.size()));
    return shape;
  }

  struct Outcome {
    GroupStatistics statistics;
    std::vector<Matrix> leaving;
  };
  Outcome Calibrate(Executor& executor) {
    HiddenStatesFile leaving = Must(HiddenStatesFile::Create(directory_ + "/leaving", Shape(1)));
    Outcome outcome;
    outcome.statistics = Must(CalibrateBlock(
        forward_, block_, *entering_, leaving, /*seed=*/5, /*whole_gram=*/false,
        [](int64_t) { return absl::OkStatus(); }, executor));
    for (size_t row = 0; row < rows_.size(); ++row) {
      outcome.leaving.push_back(Must(leaving.ReadRow(static_cast<int64_t>(row))));
    }
    return outcome;
  }

  SmallModel model_;
  BlockForward forward_;
  std::string directory_;
  SerialExecutor serial_;
  BlockWeights block_;
  std::vector<std::vector<int64_t>> rows_;
  std::optional<HiddenStatesFile> entering_;
};

void ExpectSame(const Matrix& a, const Matrix& b) {
  ASSERT_EQ(a.rows(), b.rows());
  const auto size = static_cast<size_t>(a.rows() * a.cols()) * sizeof(float);
  EXPECT_EQ(0, std::memcmp(a.data(), b.data(), size));
}

TEST_F(CalibrateBlockTest, IsTheSameBitsForAnyExecutor) {
  const Outcome expected = Calibrate(serial_);
  SpreadExecutor spread;
  testing::ThreadExecutor two(2), five(5);
  for (Executor* executor : std::initializer_list<Executor*>{&spread, &two, &five}) {
    const Outcome outcome = Calibrate(*executor);
    for (size_t group = 0; group < testing::llama::kGroups; ++group) {
      const Statistics& a = *expected.statistics[group];
      const Statistics& b = *outcome.statistics[group];
      EXPECT_EQ(a.token_count, b.token_count);
      EXPECT_EQ(a.sum, b.sum);
      EXPECT_EQ(a.sum_abs, b.sum_abs);
      EXPECT_EQ(a.max_abs, b.max_abs);
      EXPECT_EQ(a.gram, b.gram);
      EXPECT_EQ(a.sample.keys, b.sample.keys);
      EXPECT_EQ(a.sample.values, b.sample.values);
    }
    for (size_t row = 0; row < rows_.size(); ++row) {
      ExpectSame(expected.leaving[row], outcome.leaving[row]);
    }
  }
}

// The sums of what the Linears read, row by row, rounded to bfloat16.
TEST_F(CalibrateBlockTest, FoldsWhatTheLinearsRead) {
  testing::ThreadExecutor executor(2);
  const Outcome outcome = Calibrate(executor);
  std::array<std::vector<double>, testing::llama::kGroups> sums;
  const PreparedBlock prepared = Must(forward_.Prepare(block_, serial_));
  for (size_t row = 0; row < rows_.size(); ++row) {
    Matrix hidden = Must(entering_->ReadRow(static_cast<int64_t>(row)));
    const Matrix leaving = Must(forward_.Run(
        prepared, std::move(hidden),
        [&](size_t group, const Activations& input) {
          EXPECT_EQ(input.dtype(), DType::kBF16);
          std::vector<double>& sum = sums[static_cast<size_t>(group)];
          sum.resize(static_cast<size_t>(input.features()));
          for (int64_t t = 0; t < input.tokens(); ++t) {
            for (size_t j = 0; j < sum.size(); ++j) sum[j] += BF16ToF32(input.BF16(t)[j]);
          }
          return absl::OkStatus();
        },
        serial_));
    ExpectSame(leaving, outcome.leaving[row]);
  }
  for (size_t group = 0; group < testing::llama::kGroups; ++group) {
    const SumValues statistics(*outcome.statistics[group]);
    ASSERT_EQ(outcome.statistics[group]->sum.size(), sums[group].size());
    for (size_t j = 0; j < sums[group].size(); ++j) {
      EXPECT_NEAR(statistics.Sum(static_cast<int64_t>(j)), sums[group][j], 1e-3)
          << group << " " << j;
    }
  }
}

TEST_F(CalibrateBlockTest, TellsOfEveryTokenOnceAndNeverTwoAtATime) {
  testing::ThreadExecutor executor(4);
  HiddenStatesFile leaving = Must(HiddenStatesFile::Create(directory_ + "/leaving", Shape(1)));
  std::atomic<int> inside = 0;
  int64_t tokens = 0;
  int calls = 0;
  Must(CalibrateBlock(
      forward_, block_, *entering_, leaving, 5, false,
      [&](int64_t count) {
        EXPECT_EQ(++inside, 1);
        tokens += count;
        ++calls;
        --inside;
        return absl::OkStatus();
      },
      executor));
  int64_t expected = 0;
  for (const auto& row : rows_) expected += static_cast<int64_t>(row.size());
  EXPECT_EQ(tokens, expected);
  EXPECT_EQ(calls, static_cast<int>(rows_.size()));
}

TEST_F(CalibrateBlockTest, StopsWhenItsListenerOrTheExecutorDoes) {
  SpreadExecutor spread;
  testing::ThreadExecutor threads(3);
  for (Executor* executor : std::initializer_list<Executor*>{&serial_, &spread, &threads}) {
    HiddenStatesFile leaving = Must(HiddenStatesFile::Create(directory_ + "/leaving", Shape(1)));
    std::atomic<int> calls = 0;
    const auto failed = CalibrateBlock(
        forward_, block_, *entering_, leaving, 5, false,
        [&](int64_t) { return ++calls >= 3 ? absl::AbortedError("enough") : absl::OkStatus(); },
        *executor);
    EXPECT_EQ(failed.status().code(), absl::StatusCode::kAborted);
    EXPECT_LT(calls, static_cast<int>(rows_.size()));
  }
  threads.Cancel();
  HiddenStatesFile leaving = Must(HiddenStatesFile::Create(directory_ + "/leaving", Shape(1)));
  const auto cancelled = CalibrateBlock(
      forward_, block_, *entering_, leaving, 5, false, [](int64_t) { return absl::OkStatus(); },
      threads);
  EXPECT_EQ(cancelled.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(CalibrateBlockTest, NamesActivationsThatAreNotFinite) {
  Matrix hidden = Must(entering_->ReadRow(4));
  hidden.Row(2)[5] = std::nanf("");
  ASSERT_TRUE(entering_->WriteRow(4, hidden).ok());
  testing::ThreadExecutor threads(3);
  for (Executor* executor : std::initializer_list<Executor*>{&serial_, &threads}) {
    HiddenStatesFile leaving = Must(HiddenStatesFile::Create(directory_ + "/leaving", Shape(1)));
    const auto failed = CalibrateBlock(
        forward_, block_, *entering_, leaving, 5, false, [](int64_t) { return absl::OkStatus(); },
        *executor);
    EXPECT_EQ(failed.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(failed.status().message()),
                ::testing::AllOf(::testing::HasSubstr("qkv"), ::testing::HasSubstr("row 4")));
  }
}

}  // namespace
}  // namespace salient
