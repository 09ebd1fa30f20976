// Holds every family against transformers: the small models of tests/golden/families, one or more
// for each switch of a family, and what transformers' own classes compute for them in float32
// (tests/golden/make_family_goldens.py). Folding scales into them must change nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/linalg/gemm.h"
#include "core/model/activations.h"
#include "core/model/block_plan.h"
#include "core/model/block_weights.h"
#include "core/model/blocks/embedding_and_head.h"
#include "core/model/blocks/forward.h"
#include "core/model/families/family.h"
#include "core/model/fold.h"
#include "core/model/group_observer.h"
#include "core/model/model.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "tests/core/model/small_model.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::Must;
using testing::ReadAs;
using testing::SmallModel;

constexpr double kLogitTolerance = 1e-4;
constexpr double kLogitEffect = 1e-3;

std::string FamiliesDirectory() { return testing::TestsDirectory() + "golden/families/"; }

// Returns the names of all cases, in order.
std::vector<std::string> FamilyCases() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(FamiliesDirectory())) {
    if (entry.is_directory()) names.insert(entry.path().filename().string());
  }
  return {names.begin(), names.end()};
}

// Returns how far the furthest of the logits lies from the expected one; NaN is the furthest. Only
// as many rows are compared as both have: a head pads its own.
double FurthestLogit(const Matrix& logits, const std::vector<float>& expected) {
  double furthest = 0;
  const int64_t rows = static_cast<int64_t>(expected.size()) / logits.cols();
  for (int64_t t = 0; t < std::min(logits.rows(), rows); ++t) {
    for (int64_t j = 0; j < logits.cols(); ++j) {
      const double d = std::abs(static_cast<double>(logits.Row(t)[j]) -
                                expected[static_cast<size_t>(t * logits.cols() + j)]);
      furthest = d <= furthest ? furthest : d;
    }
  }
  return furthest;
}

// Returns the scales of a group: about 1/2, 1 or 2, the same in the query heads of one kv head.
std::vector<float> ScalesOf(const BlockPlan& block, const GroupPlan& group,
                            std::mt19937_64& random) {
  std::uniform_int_distribution<int> exponent(-1, 1);
  std::uniform_real_distribution<float> noise(0.97f, 1.03f);
  std::vector<float> scales(static_cast<size_t>(block.InputsOf(group)));
  for (float& s : scales) {
    s = std::clamp(std::ldexp(noise(random), exponent(random)), 0.5f, 2.0f);
  }
  if (!group.fold.shared_heads.has_value()) return scales;
  const auto& [head_dim, query_heads] = *group.fold.shared_heads;
  const auto heads = static_cast<size_t>(query_heads);
  const auto channels = static_cast<size_t>(head_dim);
  for (size_t j = 0; j < scales.size(); ++j) {
    scales[j] = scales[j / (heads * channels) * heads * channels + j % channels];
  }
  return scales;
}

// Multiplies the columns of the group's Linears, which is what rounding does with a scale.
void ScaleColumns(const GroupPlan& group, const std::vector<float>& scales, BlockWeights& block) {
  for (const size_t index : group.linears) {
    block.linears[index] = MultiplyColumns(block.linears[index], scales);
  }
}

class FamilyGoldenTest : public ::testing::TestWithParam<std::string> {
 protected:
  FamilyGoldenTest()
      : directory_(FamiliesDirectory() + GetParam()),
        model_(directory_),
        golden_(Must(SafetensorsFile::Open(FamiliesDirectory() + "logits.safetensors"))),
        tokens_(ReadAs<int64_t>(golden_, GetParam() + ".tokens")),
        expected_(ReadAs<float>(golden_, GetParam())) {
    LimitThreadToItself();
  }

  Matrix Logits(const std::vector<int64_t>& tokens, Executor& executor) const {
    return model_.Logits(tokens, ComputeDType::kF32, IgnoreGroup, executor);
  }

  // Returns the logits after `change` altered each block.
  template <class Change>
  Matrix ChangedLogits(Change change) {
    const Model& model = model_.plan;
    const BlockForward forward(model, ComputeDType::kF32, static_cast<int64_t>(tokens_.size()));
    Matrix hidden = Must(EmbedTokens(model_.checkpoint, model, tokens_));
    for (const BlockPlan& plan : model.blocks) {
      BlockWeights block = Must(ReadBlock(model_.checkpoint, model, plan.layer, executor_));
      change(plan, block);
      hidden = Must(forward.Run(Must(forward.Prepare(block, executor_)), std::move(hidden),
                                IgnoreGroup, executor_));
    }
    const OutputHead head = Must(OutputHead::Open(model_.checkpoint, model));
    return Must(salient::Logits(Must(head.Norm(hidden, executor_)), Must(head.Read(0, executor_)),
                                executor_));
  }

  // Returns whether what a row gives depends on its length: so it does with these kinds of rope.
  bool DependsOnLength() const {
    const std::string config = Must(ReadTextFile(directory_ + "/config.json", 1 << 20));
    for (const char* kind : {"\"dynamic\"", "\"longrope\"", "\"su\""}) {
      if (config.find(kind) != std::string::npos) return true;
    }
    return false;
  }

  std::string directory_;
  SmallModel model_;
  SafetensorsFile golden_;
  std::vector<int64_t> tokens_;
  std::vector<float> expected_;
  SerialExecutor executor_;
};

TEST_P(FamilyGoldenTest, GivesTheLogitsOfTransformers) {
  const Matrix logits = Logits(tokens_, executor_);
  ASSERT_EQ(static_cast<size_t>(logits.rows() * logits.cols()), expected_.size());
  EXPECT_LT(FurthestLogit(logits, expected_), kLogitTolerance);
}

TEST_P(FamilyGoldenTest, IsTheSameBitsForAnyExecutor) {
  const Matrix serial = Logits(tokens_, executor_);
  for (const int threads : {1, 3}) {
    testing::ThreadExecutor executor(threads);
    const Matrix logits = Logits(tokens_, executor);
    ASSERT_EQ(logits.rows() * logits.cols(), serial.rows() * serial.cols());
    EXPECT_EQ(0, std::memcmp(logits.data(), serial.data(),
                             static_cast<size_t>(logits.rows() * logits.cols()) * sizeof(float)))
        << threads << " threads";
  }
}

TEST_P(FamilyGoldenTest, ATokenSeesOnlyWhatCameBefore) {
  if (DependsOnLength()) GTEST_SKIP() << "its rope depends on the row's length";
  std::vector<int64_t> before = tokens_;
  before.resize(before.size() / 2 + 2);
  const Matrix logits = Logits(before, executor_);
  ASSERT_EQ(static_cast<size_t>(logits.rows()), before.size());
  EXPECT_LT(FurthestLogit(logits, expected_), kLogitTolerance);
}

TEST_P(FamilyGoldenTest, FoldingChangesNothing) {
  std::mt19937_64 random(7);
  int folded_groups = 0;
  for (const BlockPlan& changed : model_.plan.blocks) {
    for (const GroupPlan& group : changed.groups) {
      if (group.fold.into == Fold::Into::kNothing) continue;
      ++folded_groups;
      const std::vector<float> scales = ScalesOf(changed, group, random);
      const Matrix folded = ChangedLogits([&](const BlockPlan& plan, BlockWeights& block) {
        if (plan.layer != changed.layer) return;
        DivideInput(plan, group, scales, block);
        ScaleColumns(group, scales, block);
      });
      EXPECT_LT(FurthestLogit(folded, expected_), kLogitTolerance) << group.name;
      // Half a fold is none: what is compared above does depend on both halves.
      const Matrix multiplied = ChangedLogits([&](const BlockPlan& plan, BlockWeights& block) {
        if (plan.layer == changed.layer) ScaleColumns(group, scales, block);
      });
      EXPECT_GT(FurthestLogit(multiplied, expected_), kLogitEffect) << group.name;
    }
  }
  EXPECT_GT(folded_groups, 0);
  const Matrix folded = ChangedLogits([&](const BlockPlan& plan, BlockWeights& block) {
    for (const GroupPlan& group : plan.groups) {
      if (group.fold.into == Fold::Into::kNothing) continue;
      const std::vector<float> scales = ScalesOf(plan, group, random);
      DivideInput(plan, group, scales, block);
      ScaleColumns(group, scales, block);
    }
  });
  EXPECT_LT(FurthestLogit(folded, expected_), kLogitTolerance) << "all groups together";
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyGoldenTest, ::testing::ValuesIn(FamilyCases()),
                         [](const auto& test) { return test.param; });

TEST(FamilyGoldensTest, EveryCaseHasItsLogitsAndAllLogitsACase) {
  const SafetensorsFile golden =
      Must(SafetensorsFile::Open(FamiliesDirectory() + "logits.safetensors"));
  std::set<std::string> expected;
  for (const std::string& name : FamilyCases()) {
    expected.insert(name);
    expected.insert(name + ".tokens");
  }
  std::set<std::string> found;
  for (const auto& tensor : golden.header().tensors()) found.insert(tensor.name);
  EXPECT_EQ(found, expected);
  EXPECT_FALSE(found.empty());
}

}  // namespace
}  // namespace salient
