// Measures what screening costs: the exact loss of the scale that the search picks over that of the
// scale that all candidates in f32 would have picked, from the same statistics.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/config/model/model_config.h"
#include "core/method/scale_awq.h"
#include "core/method/scale_candidates.h"
#include "core/method/scale_search.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/statistics/accumulator.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/statistics.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"
#include "gtest/gtest.h"
#include "tests/core/model/small_model.h"
#include "tests/support/direct_statistics.h"
#include "tests/support/matrix_view.h"
#include "tests/support/sanitizer.h"
#include "tests/support/shared_files.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::GaussianMatrix;
using testing::Must;

struct Comparison {
  double excess = 0;       // of the exact loss
  double evaluations = 0;  // on all rows
  ScaleCandidate chosen, best;
};

// `exact` judges; it may know more than the statistics that both searches see.
Comparison Compare(const std::vector<WeightView>& weights, const Statistics& statistics,
                   const Statistics& exact, const WeightFormat& format, ScaleAwqParams params,
                   Executor& executor) {
  const LossModel model(statistics);
  const ScaleSearch fast =
      Must(SearchAwqScale(weights, statistics, model, format, params, executor));
  params.exhaustive = true;
  const ScaleSearch full =
      Must(SearchAwqScale(weights, statistics, model, format, params, executor));
  const ScaleSearch truth =
      &statistics == &exact
          ? full
          : Must(SearchAwqScale(weights, exact, LossModel(exact), format, params, executor));
  const auto loss_of = [&](const ScaleCandidate& candidate) {
    const auto found = std::find(truth.candidates.begin(), truth.candidates.end(), candidate);
    return truth.losses[static_cast<size_t>(found - truth.candidates.begin())];
  };
  return {loss_of(fast.chosen) / loss_of(full.chosen) - 1,
          static_cast<double>(fast.candidates.size()), fast.chosen, full.chosen};
}

Statistics Fold(const Matrix& x, int64_t exact_gram_limit, Executor& executor) {
  StatisticsParams params;
  params.in_features = x.cols();
  params.exact_gram_limit = exact_gram_limit;
  StatisticsAccumulator accumulator = Must(StatisticsAccumulator::Create("x", params));
  const auto* bytes = reinterpret_cast<const std::byte*>(x.data());
  const absl::Status status = accumulator.Fold(0, 0, DType::kF32, bytes, x.rows(), executor);
  EXPECT_TRUE(status.ok()) << status;
  return Must(std::move(accumulator).Finish(executor));
}

struct Stress {
  std::string name;
  int64_t columns;
  int64_t rows;  // of the first weight; a second has a quarter of them
  WeightFormat format;
  double salient = 1;  // factor on every 97th channel
  double shift = 0;    // deviation of the channels' means
  double massive = 1;  // factor on one token
  double freedom = 0;  // of Student's t that weights and channels' sizes follow; 0: Gaussian
  bool tied = false;
};

// Gaussian or heavy-tailed.
double Draw(double freedom, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  if (freedom == 0) return normal(random);
  std::student_t_distribution<double> tails(freedom);
  return tails(random);
}

TEST(ScaleScreeningTest, StressSetLosesAtMostOneAndAHalfPercent) {
  if (testing::kUnderSanitizer) GTEST_SKIP() << "SKIPPED: takes minutes under a sanitizer";
  testing::ThreadExecutor executor(2);
  const WeightFormat four{4, 128, false, DType::kF16};
  const WeightFormat three{3, 32, false, DType::kF16};
  const WeightFormat two{2, 128, true, DType::kF16};
  const WeightFormat whole{4, -1, false, DType::kBF16};
  // Most are half as wide as what production keeps in blocks, from 513 columns on. What one token
  // rules is not: at 640 columns the choice of massive_2bit costs 2.2 %.
  const std::vector<Stress> cases = {{"flat", 640, 1536, four},
                                     {"salient", 640, 1536, four, 24},
                                     {"salient_g32_3bit", 640, 1024, three, 100},
                                     {"salient_2bit", 640, 1024, two, 24},
                                     {"salient_per_channel", 640, 1024, whole, 24},
                                     {"shift", 640, 1536, four, 8, 3},
                                     {"massive", 1280, 1536, four, 8, 0.3, 300},
                                     {"massive_2bit", 1280, 1024, two, 8, 0.3, 300},
                                     {"heavy_tails", 640, 1536, four, 8, 0.3, 1, 3},
                                     {"heavy_tails_3bit", 640, 1024, three, 8, 0.3, 1, 2.2},
                                     {"heavy_tails_per_channel", 640, 1024, whole, 8, 0.3, 1, 3},
                                     {"few_rows", 640, 32, four, 24},
                                     {"few_rows_2bit", 640, 16, two, 24, 1, 30},
                                     {"tied", 512, 1024, four, 24, 0.3, 1, 0, true},
                                     {"tied_tails_3bit", 512, 768, three, 24, 0.3, 1, 3, true},
                                     {"whole_gram", 512, 2048, four, 24, 1, 30, 4},
                                     {"whole_gram_2bit", 512, 640, two, 24, 1, 30, 4}};
  double worst = 0, total = 0, evaluations = 0;
  for (const Stress& stress : cases) {
    std::mt19937_64 random(21);
    Matrix x = testing::Activations(22, 512, stress.columns);
    const Matrix shift = GaussianMatrix(23, 1, stress.columns, static_cast<float>(stress.shift));
    for (int64_t j = 0; j < stress.columns; ++j) {
      const double tail = stress.freedom == 0 ? 1 : std::abs(Draw(stress.freedom, random)) + 0.05;
      const double size = (j % 97 == 5 ? stress.salient / 24 : 1) * tail;
      for (int64_t t = 0; t < x.rows(); ++t) {
        const double token = t == 33 ? stress.massive : 1;
        x.Row(t)[j] = static_cast<float>((x.Row(t)[j] + shift.data()[j]) * size * token);
      }
    }
    Matrix w(stress.rows, stress.columns), v(std::max<int64_t>(8, stress.rows / 4), stress.columns);
    for (Matrix* weight : {&w, &v}) {
      for (int64_t i = 0; i < weight->rows() * weight->cols(); ++i) {
        weight->data()[i] = static_cast<float>(0.02 * Draw(stress.freedom, random));
      }
    }
    ScaleAwqParams params;
    if (stress.tied) params.tied_heads = TiedHeads{32, 4};
    const Statistics statistics = Fold(x, 512, executor);
    const Statistics exact = Fold(x, 1280, executor);
    const Comparison c = Compare({testing::View(w), testing::View(v)}, statistics, exact,
                                 stress.format, params, executor);
    std::cout << stress.name << ": excess " << 100 * c.excess << " % after " << c.evaluations
              << " evaluations; chosen " << c.chosen.weight_aware << "," << c.chosen.ratio
              << " best " << c.best.weight_aware << "," << c.best.ratio << "\n";
    EXPECT_LE(c.excess, 0.015) << stress.name;
    worst = std::max(worst, c.excess);
    total += c.excess / static_cast<double>(cases.size());
    evaluations += c.evaluations / static_cast<double>(cases.size());
  }
  std::cout << "stress set: worst excess " << 100 * worst << " %, mean " << 100 * total << " %, "
            << evaluations << " evaluations in the mean\n";
}

// Statistics of every group of a model on some token rows, and the searches on them.
void SearchModel(const std::string& directory, const std::vector<std::vector<int64_t>>& rows,
                 const WeightFormat& format, std::vector<Comparison>& results, Executor& executor) {
  const testing::SmallModel model(directory);
  const ModelConfig& config = model.config;
  const BlockForward forward(model.plan, ComputeDType::kF32, static_cast<int64_t>(rows[0].size()));
  std::vector<Matrix> hidden;
  for (const std::vector<int64_t>& row : rows) {
    hidden.push_back(Must(EmbedTokens(model.checkpoint, model.plan, row)));
  }
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const BlockWeights block = Must(ReadBlock(model.checkpoint, model.plan, layer, executor));
    const PreparedBlock prepared = Must(forward.Prepare(block, executor));
    std::map<size_t, StatisticsAccumulator> accumulators;
    for (size_t row = 0; row < rows.size(); ++row) {
      const auto observe = [&](size_t group, const Activations& input) {
        if (accumulators.count(group) == 0) {
          StatisticsParams params;
          params.in_features = input.features();
          accumulators.emplace(group, Must(StatisticsAccumulator::Create("x", params)));
        }
        return accumulators.at(group).Fold(static_cast<int64_t>(row), 0, input.dtype(),
                                           input.data(), input.tokens(), executor);
      };
      hidden[row] = Must(forward.Run(prepared, std::move(hidden[row]), observe, executor));
    }
    const std::vector<GroupPlan>& groups = model.plan.blocks[layer].groups;
    for (size_t i = 0; i < groups.size(); ++i) {
      const GroupPlan& group = groups[i];
      const Statistics statistics = Must(std::move(accumulators.at(i)).Finish(executor));
      if (statistics.params.in_features % format.GroupSize(statistics.params.in_features) != 0) {
        continue;
      }
      std::vector<WeightView> weights;
      for (size_t linear : group.linears) weights.push_back(block.linears[linear].View());
      ScaleAwqParams params;
      if (const auto& heads = group.fold.shared_heads; heads.has_value()) {
        params.tied_heads = {heads->head_dim, heads->query_heads_per_kv_head};
      }
      results.push_back(Compare(weights, statistics, statistics, format, params, executor));
    }
  }
}

TEST(ScaleScreeningTest, TestModelsLoseAtMostAThousandthInTheMean) {
  if (testing::kUnderSanitizer) GTEST_SKIP() << "SKIPPED: takes minutes under a sanitizer";
  testing::ThreadExecutor executor(2);
  const std::string pocket = testing::TestsDirectory() + "data/pocket-llama";
  const std::vector<int32_t> ids = testing::ReadAs<int32_t>(
      Must(SafetensorsFile::Open(pocket + "/calibration_open.safetensors")), "input_ids");
  std::vector<std::string> directories = {pocket};
  for (const char* name : {"pocket-llama-salient", "stories260k", "babyllama-969k"}) {
    const std::string shared = testing::SharedFile(std::string("models/") + name);
    if (shared.empty()) {
      std::cout << "SKIPPED: models/" << name << " is not here\n";
    } else {
      directories.push_back(shared);
    }
  }
  double total = 0, evaluations = 0, worst = 0, groups = 0;
  for (const std::string& directory : directories) {
    const int64_t vocabulary = testing::SmallModel(directory).config.vocab_size;
    // Another model's tokens are noise to it, which serves a comparison of searches.
    std::vector<std::vector<int64_t>> rows(8);
    for (size_t row = 0; row < rows.size(); ++row) {
      for (size_t t = 0; t < 256; ++t) rows[row].push_back(ids[row * 256 + t] % vocabulary);
    }
    for (const WeightFormat& format :
         {WeightFormat{4, 128, false, DType::kF16}, WeightFormat{3, 32, false, DType::kF16}}) {
      std::vector<Comparison> results;
      SearchModel(directory, rows, format, results, executor);
      double mean = 0;
      for (const Comparison& c : results) {
        mean += c.excess / static_cast<double>(results.size());
        worst = std::max(worst, c.excess);
        total += c.excess;
        evaluations += c.evaluations;
        groups += 1;
      }
      std::cout << directory << " " << format.bits << " bit: mean excess " << 100 * mean
                << " % over " << results.size() << " groups\n";
    }
  }
  std::cout << "models: mean excess " << 100 * total / groups << " %, worst " << 100 * worst
            << " %, " << evaluations / groups << " evaluations in the mean\n";
  EXPECT_GT(groups, 0);
  EXPECT_LE(total / groups, 0.001);
}

}  // namespace
}  // namespace salient
