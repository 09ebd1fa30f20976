#include "core/evaluate/evaluate_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/model/activation_range.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/group_observer.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/source/nearest_source.h"
#include "core/source/quantized_source.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/stored_format.h"
#include "tests/core/model/small_model.h"
#include "tests/support/altered_source.h"
#include "tests/support/sanitizer.h"
#include "tests/support/shared_files.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::Must;
using testing::ReadAs;
using testing::SmallModel;
using testing::TestsDirectory;
using Rows = std::vector<std::vector<int64_t>>;

class Progress final : public EvaluationObserver {
 public:
  absl::Status TokensDone(int64_t block, int64_t count) override {
    tokens[block] += count;
    ++calls;
    return calls == fail_at ? absl::UnavailableError("nobody listens") : absl::OkStatus();
  }
  std::map<int64_t, int64_t> tokens;
  int calls = 0;
  int fail_at = -1;
};

Rows RowsOf(const std::string& path, size_t most) {
  const SafetensorsFile file = Must(SafetensorsFile::Open(path));
  const std::vector<int32_t> ids = ReadAs<int32_t>(file, "input_ids");
  const int64_t width = Must(file.header().Get("input_ids"))->shape[1];
  Rows rows;
  for (auto at = ids.begin(); at != ids.end() && rows.size() < most; at += width) {
    rows.emplace_back(at, at + width);
  }
  return rows;
}

class EvaluateModelTest : public ::testing::Test {
 protected:
  EvaluateModelTest()
      : work_(::testing::TempDir() + "evaluate." +
              ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    LimitThreadToItself();
    std::filesystem::remove_all(work_);
    std::filesystem::create_directories(work_);
  }
  ~EvaluateModelTest() override {
    EXPECT_TRUE(std::filesystem::is_empty(work_)) << "hidden states were left behind";
    std::filesystem::remove_all(work_);
  }

  absl::StatusOr<std::vector<ModelEvaluation>> Evaluate(const std::vector<EvaluatedModel>& models,
                                                        const Rows& rows, Executor& executor) {
    return EvaluateModels(models, rows, work_, progress_, executor);
  }

  std::string work_;
  Progress progress_;
  SerialExecutor serial_;
  testing::ThreadExecutor threads_{2};
};

std::vector<long double> LogProbabilities(const float* logits, int64_t count) {
  long double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(static_cast<long double>(logits[i]));
  std::vector<long double> log_p;
  for (int64_t i = 0; i < count; ++i) log_p.push_back(logits[i] - std::log(sum));
  return log_p;
}

// The range is of the embeddings and what leaves a block, of every row; zero tensors have names.
TEST_F(EvaluateModelTest, TellsHowFarTheResidualStreamReachesAndWhatIsZero) {
  const SmallModel model(TestsDirectory() + "golden/forward/plain");
  const Rows rows = {{1, 2, 3, 4, 5}, {6, 7}};
  testing::AlteredSource zeros(model.checkpoint);
  for (const char* name : {"model.norm.weight", "model.layers.1.mlp.up_proj.weight"}) {
    const TensorEntry& entry = *Must(model.checkpoint.Find(name)).entry;
    zeros.Put({name, entry.dtype, entry.shape,
               std::vector<std::byte>(static_cast<size_t>(entry.SizeBytes()))});
  }
  const auto results =
      Must(Evaluate({{&model.checkpoint, &model.plan}, {&zeros, &model.plan}}, rows, threads_));
  // Each magnitude stands under the place where it is.
  std::map<std::string, float> largest;
  for (const std::vector<int64_t>& row : rows) {
    Matrix hidden = Must(EmbedTokens(model.checkpoint, model.plan, row));
    const auto add = [&](const std::string& where) {
      largest[where] = std::max(largest[where], LargestMagnitude(hidden));
    };
    add("the embeddings");
    const BlockForward forward(model.plan, ComputeDType::kF32, 5);
    for (const int64_t layer : {0, 1}) {
      const BlockWeights block = Must(ReadBlock(model.checkpoint, model.plan, layer, serial_));
      const PreparedBlock prepared = Must(forward.Prepare(block, serial_));
      hidden = Must(forward.Run(prepared, std::move(hidden), IgnoreGroup, serial_));
      add("the residual stream leaving model.layers." + std::to_string(layer));
    }
  }
  const auto most =
      std::max_element(largest.begin(), largest.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  EXPECT_EQ(results[0].range.where, most->first);
  EXPECT_EQ(results[0].range.largest, most->second);
  EXPECT_THAT(results[0].zero_tensors, ::testing::IsEmpty());
  EXPECT_THAT(results[1].zero_tensors,
              ::testing::ElementsAre("model.norm.weight", "model.layers.1.mlp.up_proj.weight"));
}

// Rows of one model, beside two whose final norms are multiples of its own, and so their logits:
// all from the logits that NumPy computed for 70 tokens. A row's beginning has the same logits as
// the row.
TEST_F(EvaluateModelTest, IsWhatNumPysLogitsSay) {
  constexpr int64_t kVocabulary = 40;
  const std::vector<float> factors = {1, 2, -0.5f};
  for (const char* name : {"plain", "all_biases", "untied_head", "all_together"}) {
    const std::string path = TestsDirectory() + "golden/forward/" + name;
    const SmallModel model(path);
    const SafetensorsFile golden = Must(SafetensorsFile::Open(path + ".safetensors"));
    const std::vector<int64_t> tokens = ReadAs<int64_t>(golden, "tokens");
    const std::vector<float> logits = ReadAs<float>(golden, "logits");
    const StoredVector norm =
        Must(ReadVector(model.checkpoint, model.config, {"model.norm.weight", {32}}));
    std::vector<testing::AlteredSource> sources;
    std::vector<EvaluatedModel> models;
    for (const float factor : factors) {
      NamedTensor scaled{norm.name, DType::kF32, {32}, {}};
      for (const float weight : norm.values) {
        const float value = factor * weight;
        const auto* bytes = reinterpret_cast<const std::byte*>(&value);
        scaled.data.insert(scaled.data.end(), bytes, bytes + sizeof(value));
      }
      sources.emplace_back(model.checkpoint);
      sources.back().Put(std::move(scaled));
    }
    for (const testing::AlteredSource& source : sources) models.push_back({&source, &model.plan});
    Rows rows;
    int64_t predicted = 0;
    for (const int64_t length : {70, 65, 2, 64}) {
      rows.emplace_back(tokens.begin(), tokens.begin() + length);
      predicted += length - 1;
    }
    progress_ = Progress();
    const auto results = Must(Evaluate(models, rows, threads_));
    ASSERT_EQ(results.size(), factors.size());
    for (size_t m = 0; m < factors.size(); ++m) {
      long double likelihood = 0;
      long double kl = 0;
      int64_t agreements = 0;
      for (const std::vector<int64_t>& row : rows) {
        for (size_t t = 0; t + 1 < row.size(); ++t) {
          const float* first = logits.data() + t * kVocabulary;
          std::vector<float> own(first, first + kVocabulary);
          for (float& logit : own) logit *= factors[m];
          const auto log_p = LogProbabilities(first, kVocabulary);
          const auto log_q = LogProbabilities(own.data(), kVocabulary);
          likelihood -= log_q[static_cast<size_t>(row[t + 1])];
          for (size_t i = 0; i < log_p.size(); ++i) {
            kl += std::exp(log_p[i]) * (log_p[i] - log_q[i]);
          }
          agreements += std::max_element(own.begin(), own.end()) - own.begin() ==
                                std::max_element(first, first + kVocabulary) - first
                            ? 1
                            : 0;
        }
      }
      const ModelEvaluation& result = results[m];
      EXPECT_EQ(result.likelihood.tokens, predicted);
      EXPECT_NEAR(result.likelihood.negative_log_likelihood / static_cast<double>(likelihood), 1,
                  1e-5)
          << name;
      EXPECT_EQ(result.divergence.tokens, predicted);
      EXPECT_EQ(result.divergence.agreements, agreements) << name;
      EXPECT_NEAR(result.divergence.kl, static_cast<double>(kl), 1e-5 * static_cast<double>(kl))
          << name;
    }
    EXPECT_GT(results[1].divergence.MeanKl(), 0.1) << "the models should differ";
    EXPECT_LT(results[2].divergence.agreements, predicted / 2);
    EXPECT_EQ(progress_.tokens, (std::map<int64_t, int64_t>{{0, 201}, {1, 201}, {2, 201}}));
  }
}

TEST_F(EvaluateModelTest, LayerErrorsAreThoseOfTheResidualStream) {
  const SmallModel model(TestsDirectory() + "golden/forward/grouped_query");
  // Without o_proj and down_proj the last block passes on what enters it.
  testing::AlteredSource altered(model.checkpoint);
  for (const char* name :
       {"model.layers.1.self_attn.o_proj.weight", "model.layers.1.mlp.down_proj.weight"}) {
    const TensorEntry& entry = *Must(model.checkpoint.Find(name)).entry;
    altered.Put({name, entry.dtype, entry.shape,
                 std::vector<std::byte>(static_cast<size_t>(entry.SizeBytes()))});
  }
  const Rows rows = {{1, 2, 3, 4, 5, 6, 7}, {30, 20, 10}};
  double error = 0;
  double energy = 0;
  for (const std::vector<int64_t>& row : rows) {
    const BlockForward forward(model.plan, ComputeDType::kF32, 8);
    Matrix entering = Must(EmbedTokens(model.checkpoint, model.plan, row));
    const auto run = [&](int64_t layer, const Matrix& hidden) {
      Matrix copy(hidden.rows(), hidden.cols());
      std::copy_n(hidden.data(), hidden.rows() * hidden.cols(), copy.data());
      const BlockWeights block = Must(ReadBlock(model.checkpoint, model.plan, layer, serial_));
      return Must(forward.Run(Must(forward.Prepare(block, serial_)), std::move(copy), IgnoreGroup,
                              serial_));
    };
    entering = run(0, entering);
    const Matrix leaving = run(1, entering);
    for (int64_t i = 0; i < leaving.rows() * leaving.cols(); ++i) {
      error += std::pow(static_cast<double>(entering.data()[i]) - leaving.data()[i], 2);
      energy += std::pow(static_cast<double>(leaving.data()[i]), 2);
    }
  }
  const auto results = Must(Evaluate(
      {{&model.checkpoint, &model.plan}, {&altered, &model.plan}, {&model.checkpoint, &model.plan}},
      rows, serial_));
  EXPECT_TRUE(results[0].layer_errors.empty());
  EXPECT_EQ(results[1].layer_errors[0], 0);
  EXPECT_NEAR(results[1].layer_errors[1], error / energy, 1e-9);
  EXPECT_GT(results[1].layer_errors[1], 0.01);
  EXPECT_EQ(results[2].layer_errors, (std::vector<double>{0, 0}));
  EXPECT_EQ(results[2].divergence.kl, 0);
  EXPECT_EQ(results[2].divergence.agreements, results[2].divergence.tokens);
}

TEST_F(EvaluateModelTest, TheExecutorLeavesNoTrace) {
  const SmallModel model(TestsDirectory() + "golden/forward/all_together");
  const auto nearest = Must(RoundToNearestSource(model.checkpoint, model.plan, {4, 4}));
  const Rows rows = {std::vector<int64_t>(130, 7), {3, 1, 4, 1, 5, 9}};
  const std::vector<EvaluatedModel> models = {{&model.checkpoint, &model.plan},
                                              {nearest.get(), &model.plan}};
  const auto one = Must(Evaluate(models, rows, serial_));
  const auto two = Must(Evaluate(models, rows, threads_));
  for (size_t m = 0; m < models.size(); ++m) {
    EXPECT_EQ(one[m].likelihood.negative_log_likelihood, two[m].likelihood.negative_log_likelihood);
    EXPECT_EQ(one[m].divergence.kl, two[m].divergence.kl);
    EXPECT_EQ(one[m].layer_errors, two[m].layer_errors);
  }
  EXPECT_GT(one[1].divergence.kl, 0);
}

TEST_F(EvaluateModelTest, WhatCannotBeEvaluatedIsRefusedByName) {
  const SmallModel model(TestsDirectory() + "golden/forward/plain");
  const SmallModel other(TestsDirectory() + "golden/forward/multi_query_own_head_dim");
  const EvaluatedModel first = {&model.checkpoint, &model.plan};
  const auto error = [&](const std::vector<EvaluatedModel>& models, const Rows& rows) {
    const absl::Status status = Evaluate(models, rows, serial_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error({}, {{1, 2}}), HasSubstr("0 models"));
  EXPECT_THAT(error({first}, {}), HasSubstr("0 rows"));
  EXPECT_THAT(error({first}, {{1, 2}, {1}}), HasSubstr("row 1 has 1 tokens"));
  EXPECT_THAT(error({first}, {{1, 2}, {1, 40}}), HasSubstr("row 1: token at position 1 is 40"));
  const std::string sizes = error({first, {&other.checkpoint, &other.plan}}, {{1, 2}});
  EXPECT_THAT(sizes, HasSubstr(other.config.source + ": hidden_size is 24; expected 32"));
  EXPECT_THAT(sizes, HasSubstr(model.config.source));
}

TEST_F(EvaluateModelTest, AnErrorOfTheObserverEndsTheEvaluation) {
  const SmallModel model(TestsDirectory() + "golden/forward/plain");
  progress_.fail_at = 3;
  const absl::Status status =
      Evaluate({{&model.checkpoint, &model.plan}}, {{1, 2}, {3, 4}}, serial_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(progress_.calls, 3);
}

TEST_F(EvaluateModelTest, ACancelledExecutorEndsTheEvaluation) {
  const SmallModel model(TestsDirectory() + "golden/forward/plain");
  testing::ThreadExecutor executor(1);
  executor.Cancel();
  const absl::Status status =
      Evaluate({{&model.checkpoint, &model.plan}}, {{1, 2}}, executor).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

// The number is that of tests/data/pocket-llama/README.md, from tests/interop/llama_np.py.
TEST_F(EvaluateModelTest, PocketLlamaHasItsPerplexity) {
  if (testing::kUnderSanitizer) GTEST_SKIP() << "SKIPPED: takes minutes under a sanitizer";
  const SmallModel model(TestsDirectory() + "data/pocket-llama");
  const Rows rows = RowsOf(TestsDirectory() + "data/pocket-llama/evaluation_open.safetensors", 64);
  ASSERT_EQ(rows.size(), 64u);
  const auto results = Must(Evaluate({{&model.checkpoint, &model.plan}}, rows, threads_));
  EXPECT_NEAR(results[0].likelihood.Perplexity(), 20.3436, 1e-3);
  EXPECT_EQ(results[0].likelihood.tokens, 64 * 255);
}

// Checkpoints that other tools wrote, and figures that another implementation computed from them.
TEST_F(EvaluateModelTest, CheckpointsOfOtherToolsAreWorthWhatAnotherReaderSays) {
  if (testing::kUnderSanitizer) GTEST_SKIP() << "SKIPPED: takes minutes under a sanitizer";
  const std::string tokens = testing::SharedFile("data/pocket-llama/evaluation.safetensors");
  if (tokens.empty()) GTEST_SKIP() << "SKIPPED: needs the shared models";
  struct Peer {
    const char* directory;
    double perplexity;
    double kl;
  };
  const SmallModel source(testing::SharedFile("models/pocket-llama-salient"));
  const auto nearest = Must(RoundToNearestSource(source.checkpoint, source.plan, {}));
  const std::vector<Peer> peers = {
      {"autoawq-awq", 21.1377, 0.01058},       {"gptqmodel-awq", 21.0680, 0.01050},
      {"llmcompressor-awq", 21.1247, 0.01235}, {"autoround-awq", 21.2372, 0.01272},
      {"gptqmodel-gptq", 21.2557, 0.01421},    {"llmcompressor-gptq", 21.3218, 0.01179},
      {"llmcompressor-w8a8", 20.9459, 0.00063}};
  WeightFormat int8{8, kWholeRow, /*symmetric=*/true, DType::kF32};
  const auto nearest_int8 = Must(RoundToNearestSource(source.checkpoint, source.plan, int8));
  std::list<SmallModel> models;
  std::vector<std::unique_ptr<TensorSource>> sources;
  for (const Peer& peer : peers) {
    models.emplace_back(testing::SharedFile(std::string("peers/") + peer.directory));
  }
  std::vector<EvaluatedModel> evaluated = {
      {&source.checkpoint, &source.plan},
      {nearest.get(), &source.plan},
      {nearest_int8.get(), &source.plan,
       RoundToNearestInputs(Must(NearestFormatsOf(source.plan, int8)),
                            ActivationFormat::kDynamicToken)}};
  for (const SmallModel& model : models) {
    sources.push_back(Must(OpenQuantizedSource(model.checkpoint, model.plan)));
    evaluated.push_back({sources.back().get(), &model.plan,
                         Must(ReadInputRoundings(model.checkpoint, model.plan))});
  }
  const auto results = Must(Evaluate(evaluated, RowsOf(tokens, 16), threads_));
  EXPECT_NEAR(results[0].likelihood.Perplexity(), 20.9075, 1e-3);
  EXPECT_NEAR(results[1].likelihood.Perplexity(), 21.3515, 1e-3);
  EXPECT_NEAR(results[1].divergence.MeanKl(), 0.02431, 2e-5);
  // The other reader took this one's weights' scales from another quantizer: the same grid but
  // for their last bits, which moves as many codes as a scale rounded otherwise does.
  EXPECT_NEAR(results[2].likelihood.Perplexity(), 21.0678, 0.02);
  EXPECT_NEAR(results[2].divergence.MeanKl(), 0.00649, 0.02 * 0.00649);
  for (size_t i = 0; i < peers.size(); ++i) {
    const ModelEvaluation& result = results[i + 3];
    // Activations that fall between two codes go either way, which moves perplexity by chance.
    const double tolerance = evaluated[i + 3].inputs.empty() ? 1e-3 : 5e-3;
    EXPECT_NEAR(result.likelihood.Perplexity(), peers[i].perplexity, tolerance)
        << peers[i].directory;
    EXPECT_NEAR(result.divergence.MeanKl(), peers[i].kl, 2e-5) << peers[i].directory;
  }
}

TEST_F(EvaluateModelTest, InputsOfSomeLayersAreRefused) {
  const SmallModel model(TestsDirectory() + "golden/forward/plain");
  const absl::Status status =
      Evaluate({{&model.checkpoint, &model.plan, InputRoundings(1)}}, {{1, 2}}, serial_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("inputs of 1 layers; expected of all 2"));
}

}  // namespace
}  // namespace salient
