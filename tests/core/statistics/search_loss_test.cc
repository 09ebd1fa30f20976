#include "core/statistics/search_loss.h"

#include <cmath>
#include <string>
#include <vector>

#include "core/kernels/search_kernels.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/tensor/dtype.h"
#include "gtest/gtest.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::GaussianMatrix;

Statistics StatisticsOf(const Matrix& x, StatisticsParams params) {
  SerialExecutor executor;
  params.in_features = x.cols();
  StatisticsAccumulator accumulator = *StatisticsAccumulator::Create("x", params);
  const auto* bytes = reinterpret_cast<const std::byte*>(x.data());
  const absl::Status status = accumulator.Fold(0, 0, DType::kF32, bytes, x.rows(), executor);
  EXPECT_TRUE(status.ok()) << status;
  return *std::move(accumulator).Finish(executor);
}

// Returns what `loss` makes of errors that are known in f32, as a caller without a fused kernel
// would.
Loss Evaluate(const SearchLoss& loss, const Matrix& errors) {
  const int64_t rows = errors.rows();
  SearchLoss::Sums sums(loss, rows);
  SearchLoss::Scratch scratch(loss, rows);
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t j = 0; j < errors.cols(); ++j) {
      const double d = errors.Row(t)[j];
      sums.squares[t] += d * d * loss.diagonal()[j];
      sums.shifts[t] += d * loss.mean()[j];
    }
  }
  for (int64_t b = 0; b < loss.Blocks(); ++b) {
    std::vector<uint16_t> pieces(static_cast<size_t>(rows * loss.Columns(b)));
    uint16_t* out = pieces.data();
    for (int64_t at = 0; at < loss.Columns(b); at += SearchLoss::kPiece) {
      const int64_t columns = std::min(SearchLoss::kPiece, loss.Columns(b) - at);
      for (int64_t t = 0; t < rows; ++t, out += columns) {
        NarrowToBf16(errors.Row(t) + loss.First(b) + at, columns, 1.0f, out);
      }
    }
    const absl::Status status = loss.AddBlock(b, pieces.data(), rows, scratch, sums);
    EXPECT_TRUE(status.ok()) << status;
  }
  return loss.Total(sums);
}

struct Input {
  std::string name;
  int64_t columns;
  float salient;  // factor on every 97th column
  float shift;    // deviation of the columns' means
  float massive;  // factor on one token
  int64_t block_width = 256;
};

class SearchLossTest : public ::testing::TestWithParam<Input> {};

// Compares the same loss as LossModel's, far below what an estimate or two candidates differ
// by, however unequal the columns are. The errors are those of no rounding in particular: Gaussian,
// of one size.
TEST_P(SearchLossTest, AgreesWithTheLossInF32) {
  const Input& input = GetParam();
  Matrix x = GaussianMatrix(1, 320, input.columns);
  const Matrix shift = GaussianMatrix(2, 1, input.columns, input.shift);
  for (int64_t t = 0; t < x.rows(); ++t) {
    for (int64_t j = 0; j < x.cols(); ++j) {
      x.Row(t)[j] += shift.data()[j];
      if (j % 97 == 5) x.Row(t)[j] *= input.salient;
      if (t == 17) x.Row(t)[j] *= input.massive;
    }
  }
  StatisticsParams params;
  params.block_width = input.block_width;
  const Statistics statistics = StatisticsOf(x, params);
  testing::ThreadExecutor executor(2);
  const absl::StatusOr<LossModel> model = LossModel::Create(statistics, executor);
  ASSERT_TRUE(model.ok()) << model.status();
  const absl::StatusOr<SearchLoss> loss = SearchLoss::Create(*model, executor);
  ASSERT_TRUE(loss.ok()) << loss.status();
  for (int64_t rows : {5, 64}) {
    const Matrix errors = GaussianMatrix(3, rows, input.columns, 0.01f);
    const absl::StatusOr<Loss> expected = model->Evaluate(errors.data(), rows);
    ASSERT_TRUE(expected.ok()) << expected.status();
    const Loss found = Evaluate(*loss, errors);
    const double tolerance = (rows == 64 ? 1e-3 : 5e-3) * expected->Value();
    EXPECT_NEAR(found.Value(), expected->Value(), tolerance) << rows << " rows";
    EXPECT_NEAR(found.StandardError(), expected->StandardError(), 0.01 * expected->StandardError());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Inputs, SearchLossTest,
    ::testing::Values(Input{"narrow", 172, 24, 0.3f, 1}, Input{"whole_gram", 768, 24, 0.3f, 1},
                      Input{"flat", 1536, 1, 0, 1}, Input{"salient", 1536, 100, 0, 1},
                      Input{"shifted", 1536, 1, 10, 1}, Input{"massive", 1536, 1, 1, 300},
                      Input{"uneven", 1100, 24, 0.3f, 1},
                      Input{"other_blocks", 1100, 24, 0.3f, 1, 192}),
    [](const auto& test) { return test.param.name; });

TEST(LossModelTest, ColumnsFilledByManyThreadsAreTheSame) {
  testing::ThreadExecutor executor(3);
  for (int64_t columns : {300, 1300}) {
    const Statistics statistics = StatisticsOf(testing::Activations(4, 64, columns), {});
    const absl::StatusOr<LossModel> many = LossModel::Create(statistics, executor);
    ASSERT_TRUE(many.ok()) << many.status();
    const Matrix errors = GaussianMatrix(5, 7, columns, 0.01f);
    const absl::StatusOr<Loss> one = LossModel(statistics).Evaluate(errors.data(), 7);
    ASSERT_TRUE(one.ok()) << one.status();
    const absl::StatusOr<Loss> other = many->Evaluate(errors.data(), 7);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(one->exact, other->exact);
    EXPECT_EQ(one->sketched, other->sketched);
  }
}

// Lets one task run.
class ShortExecutor final : public Executor {
 public:
  absl::Status ForEach(int64_t count, absl::FunctionRef<absl::Status(int64_t)> task) override {
    if (absl::Status status = task(0); !status.ok() || count == 1) return status;
    return absl::CancelledError("enough");
  }
  int Concurrency() const override { return 1; }
};

// The whole Gram of many columns is laid out piece by piece: it would keep a thread for seconds.
TEST(SearchLossTest, IsCancelledOnTheWay) {
  for (const int64_t exact_gram_limit : {1024, 64}) {
    StatisticsParams params;
    params.exact_gram_limit = exact_gram_limit;
    params.block_width = 128;
    const LossModel model(StatisticsOf(testing::Activations(5, 20, 300), params));
    ShortExecutor executor;
    EXPECT_EQ(SearchLoss::Create(model, executor).status().code(), absl::StatusCode::kCancelled);
  }
}

}  // namespace
}  // namespace salient
