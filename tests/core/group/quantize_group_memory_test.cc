// Measures what quantizing a group really allocates, counted where memory is handed out.
#include <gtest/gtest.h>

#include <vector>

#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/method/method.h"
#include "core/parallel/executor.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/stored_format.h"
#include "tests/support/counted_allocation.h"
#include "tests/support/direct_statistics.h"

namespace salient {
namespace {

struct Shape {
  std::vector<int64_t> out_features;
  int64_t in_features;
  // The bound is not slack either; it is false for shapes that are all scratch.
  bool honest_within_four;
  bool activations = false;
  RoundingChoice rounding = RoundingChoice::kBlock;
};

class QuantizeGroupMemoryTest : public ::testing::TestWithParam<Shape> {};

// Property: QuantizeGroupMemoryBytes bounds what QuantizeGroup holds, and not by much.
TEST_P(QuantizeGroupMemoryTest, BoundIsKeptAndHonest) {
  LimitThreadToItself();
  SerialExecutor serial;
  const int64_t columns = GetParam().in_features;
  StatisticsParams params;
  params.in_features = columns;
  Method method;
  method.rounding = GetParam().rounding;
  if (NeedsWholeGram(method)) params.KeepWholeGram();
  auto accumulator = StatisticsAccumulator::Create("g", params);
  ASSERT_TRUE(accumulator.ok());
  const Matrix x = testing::GaussianMatrix(1, 128, columns);
  ASSERT_TRUE(
      accumulator
          ->Fold(0, 0, DType::kF32, reinterpret_cast<const std::byte*>(x.data()), 128, serial)
          .ok());
  const Statistics statistics = *std::move(*accumulator).Finish(serial);

  GroupInput group;
  group.name = "g";
  group.statistics = &statistics;
  std::vector<Matrix> weights;
  int64_t total = 0;
  for (int64_t rows : GetParam().out_features) {
    weights.push_back(testing::GaussianMatrix(2, rows, columns, 0.02f));
    total += rows;
  }
  for (const Matrix& w : weights) {
    group.linears.push_back(
        {"linear", {DType::kF32, reinterpret_cast<const std::byte*>(w.data()), w.rows(), columns}});
  }
  const int64_t before = testing::live_bytes;
  testing::peak_bytes = before;
  StoredFormat stored;
  // It is wider than the 5 bits a weight that the bound takes packed results for.
  int64_t wider = 0;
  if (GetParam().activations) {
    stored = {{8, kWholeRow, true, DType::kF16},
              OutputFormat::kIntQuantized,
              ActivationFormat::kDynamicToken};
    wider = 3 * total * columns / 8;
  }
  const auto result = QuantizeGroup(group, method, stored, serial);
  ASSERT_TRUE(result.ok()) << result.status();
  const int64_t held = testing::peak_bytes - before;
  const int64_t bound = wider + QuantizeGroupMemoryBytes(total, columns, method, stored.activations,
                                                         serial.Concurrency());
  EXPECT_LE(held, bound);
  if (GetParam().honest_within_four) {
    EXPECT_GE(held, bound / 4);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, QuantizeGroupMemoryTest,
    ::testing::Values(Shape{{8}, 128, false}, Shape{{768, 768}, 256, true},
                      Shape{{1024}, 1024, true}, Shape{{512, 256}, 2048, true},
                      Shape{{256}, 4096, true}, Shape{{768, 768}, 256, true, true},
                      Shape{{512, 256}, 2048, true, true},
                      Shape{{512, 256}, 256, true, false, RoundingChoice::kGptq},
                      Shape{{256}, 2048, true, false, RoundingChoice::kGptq}));

}  // namespace
}  // namespace salient
