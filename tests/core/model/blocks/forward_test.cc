// Holds the forward pass against tests/golden/forward: what an independent NumPy forward computes
// in float64 for tiny random models, one for each switch and some for several together
// (tests/golden/make_forward_goldens.py), and what transformers' own classes compute for them in
// float32 (tests/golden/make_transformers_goldens.py). Logits lie between -31 and 31.
#include "core/model/blocks/forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/half.h"
#include "tests/core/model/llama_places.h"
#include "tests/core/model/small_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::Must;
using testing::ReadAs;
using testing::SmallModel;
using testing::TestsDirectory;

std::string CasePath(const std::string& name) {
  return TestsDirectory() + "golden/forward/" + name;
}

SafetensorsFile Golden(const std::string& name) {
  return Must(SafetensorsFile::Open(CasePath(name) + ".safetensors"));
}

double LargestDifference(const float* values, const std::vector<float>& expected) {
  double largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    // It is written so that a NaN is the largest difference.
    const double difference = std::abs(static_cast<double>(values[i]) - expected[i]);
    largest = difference <= largest ? largest : difference;
  }
  return largest;
}

double RootMeanSquare(const float* a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  }
  return std::sqrt(sum / static_cast<double>(b.size()));
}

// Copies what the observer sees.
class Collector {
 public:
  absl::Status See(size_t group, const Activations& input) {
    order.push_back(group);
    std::vector<float>& values = inputs[group];
    values.resize(static_cast<size_t>(input.tokens() * input.features()));
    WidenToF32(input.dtype(), input.data(), input.tokens() * input.features(), values.data());
    return absl::OkStatus();
  }
  std::vector<size_t> order;
  std::map<size_t, std::vector<float>> inputs;
};

class ForwardTest : public ::testing::TestWithParam<const char*> {
 protected:
  ForwardTest() { LimitThreadToItself(); }
};

TEST_P(ForwardTest, GivesTheLogitsAndGroupInputsOfTheReference) {
  const SmallModel model(CasePath(GetParam()));
  const SafetensorsFile golden = Golden(GetParam());
  SerialExecutor executor;
  Collector seen;
  const auto see = [&seen](size_t group, const Activations& input) {
    return seen.See(group, input);
  };
  const Matrix logits =
      model.Logits(ReadAs<int64_t>(golden, "tokens"), ComputeDType::kF32, see, executor);
  const std::vector<float> expected = ReadAs<float>(golden, "logits");
  ASSERT_EQ(static_cast<size_t>(logits.rows() * logits.cols()), expected.size());
  EXPECT_LT(LargestDifference(logits.data(), expected), 1e-4);
  EXPECT_THAT(seen.order,
              ::testing::ElementsAre(testing::llama::kQkvGroup, testing::llama::kOutputGroup,
                                     testing::llama::kGateUpGroup, testing::llama::kDownGroup));
  const std::map<size_t, std::string> names = {{testing::llama::kQkvGroup, "qkv"},
                                               {testing::llama::kOutputGroup, "o"},
                                               {testing::llama::kGateUpGroup, "gate_up"},
                                               {testing::llama::kDownGroup, "down"}};
  for (const auto& [group, name] : names) {
    const std::vector<float> input = ReadAs<float>(golden, name);
    ASSERT_EQ(seen.inputs[group].size(), input.size()) << name;
    EXPECT_LT(LargestDifference(seen.inputs[group].data(), input), 1e-4) << name;
  }
}

TEST_P(ForwardTest, GivesTheLogitsOfTransformers) {
  const SmallModel model(CasePath(GetParam()));
  const std::vector<float> expected = ReadAs<float>(Golden("transformers"), GetParam());
  SerialExecutor executor;
  const Matrix logits = model.Logits(ReadAs<int64_t>(Golden(GetParam()), "tokens"),
                                     ComputeDType::kF32, IgnoreGroup, executor);
  ASSERT_EQ(static_cast<size_t>(logits.rows() * logits.cols()), expected.size());
  EXPECT_LT(LargestDifference(logits.data(), expected), 1e-4);
}

TEST_P(ForwardTest, IsTheSameBitsForAnyExecutor) {
  const SmallModel model(CasePath(GetParam()));
  const std::vector<int64_t> tokens = ReadAs<int64_t>(Golden(GetParam()), "tokens");
  SerialExecutor serial;
  const Matrix expected = model.Logits(tokens, ComputeDType::kF32, IgnoreGroup, serial);
  for (const int threads : {1, 3}) {
    testing::ThreadExecutor executor(threads);
    const Matrix logits = model.Logits(tokens, ComputeDType::kF32, IgnoreGroup, executor);
    EXPECT_EQ(0, std::memcmp(logits.data(), expected.data(),
                             static_cast<size_t>(logits.rows() * logits.cols()) * sizeof(float)));
  }
}

// Causal: what follows a token, padding included, must not reach it.
TEST_P(ForwardTest, ATokenSeesOnlyWhatCameBefore) {
  const SmallModel model(CasePath(GetParam()));
  const SafetensorsFile golden = Golden(GetParam());
  std::vector<int64_t> tokens = ReadAs<int64_t>(golden, "tokens");
  tokens.resize(37);
  std::vector<float> expected = ReadAs<float>(golden, "logits");
  expected.resize(tokens.size() * static_cast<size_t>(model.config.vocab_size));
  SerialExecutor executor;
  const Matrix logits = model.Logits(tokens, ComputeDType::kF32, IgnoreGroup, executor);
  EXPECT_LT(LargestDifference(logits.data(), expected), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Switches, ForwardTest,
                         ::testing::Values("plain", "grouped_query", "multi_query_own_head_dim",
                                           "qkv_bias", "all_biases", "llama3_rope", "untied_head",
                                           "sliding_window", "all_together", "columns_172",
                                           "mistral_together", "qwen2_together"),
                         [](const auto& test) { return std::string(test.param); });

// Roundings of values at a tie may differ, so not bit for bit: the error against the reference's
// own bf16 is a small part of what bf16 changes.
TEST(BlockForwardTest, BF16RoundsBothFactorsOfAProduct) {
  LimitThreadToItself();
  const SmallModel model(CasePath("grouped_query"));
  const SafetensorsFile golden = Golden("grouped_query");
  SerialExecutor executor;
  const Matrix logits =
      model.Logits(ReadAs<int64_t>(golden, "tokens"), ComputeDType::kBF16, IgnoreGroup, executor);
  const double error = RootMeanSquare(logits.data(), ReadAs<float>(golden, "logits_bf16"));
  const double effect = RootMeanSquare(logits.data(), ReadAs<float>(golden, "logits"));
  EXPECT_GT(effect, 1e-3);
  EXPECT_LT(error, 0.1 * effect);
}

TEST(BlockForwardTest, StopsWhenTheObserverOrTheExecutorFails) {
  LimitThreadToItself();
  const SmallModel model(CasePath("plain"));
  SerialExecutor executor;
  const BlockForward forward(model.plan, ComputeDType::kF32, 70);
  const BlockWeights block = Must(ReadBlock(model.checkpoint, model.plan, 0, executor));
  const PreparedBlock prepared = Must(forward.Prepare(block, executor));
  int calls = 0;
  const auto failing = [&](size_t group, const Activations&) {
    ++calls;
    return group == testing::llama::kOutputGroup ? absl::DataLossError("full") : absl::OkStatus();
  };
  const auto failed = forward.Run(prepared, Matrix(5, 32), failing, executor);
  EXPECT_EQ(failed.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(calls, 2);

  testing::ThreadExecutor cancelled(2);
  cancelled.Cancel();
  EXPECT_EQ(forward.Run(prepared, Matrix(5, 32), IgnoreGroup, cancelled).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(BlockForwardTest, RefusesOtherShapes) {
  LimitThreadToItself();
  const SmallModel model(CasePath("plain"));
  SerialExecutor executor;
  const BlockForward forward(model.plan, ComputeDType::kF32, 64);
  const BlockWeights block = Must(ReadBlock(model.checkpoint, model.plan, 0, executor));
  const PreparedBlock prepared = Must(forward.Prepare(block, executor));
  for (const auto& [rows, cols] : {std::pair{0, 32}, {65, 32}, {5, 31}}) {
    const auto refused = forward.Run(prepared, Matrix(rows, cols), IgnoreGroup, executor);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()), ::testing::HasSubstr("[1 to 64, 32]"));
  }
}

}  // namespace
}  // namespace salient
