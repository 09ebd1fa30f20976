#include "client/tensors/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "tests/client/tensor_files.h"

namespace salient::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Makes two Linears of in_features 4 and one of 6, and activations for them.
std::vector<NamedTensor> Weights() {
  return {PatternTensor("q.weight", DType::kF16, {8, 4}),
          PatternTensor("k.weight", DType::kBF16, {2, 4}),
          PatternTensor("down.weight", DType::kF32, {3, 6})};
}
std::vector<NamedTensor> Activations() {
  return {PatternTensor("qk", DType::kF32, {2, 5, 4}),
          PatternTensor("down.input", DType::kF16, {7, 6})};
}

class TensorsPlanTest : public ::testing::Test {
 protected:
  absl::StatusOr<TensorsPlan> Plan(const std::vector<NamedTensor>& weights,
                                   const std::vector<NamedTensor>& activations,
                                   const std::vector<RequestedGroup>& specs) {
    const SafetensorsFile w = WriteAndOpen(directory_.File("w.safetensors"), weights);
    const SafetensorsFile a = WriteAndOpen(directory_.File("a.safetensors"), activations);
    return MakeTensorsPlan(w, a, specs);
  }

  TemporaryDirectory directory_;
  const RequestedGroup qk_ = {"qk", {"q", "k"}, "", std::nullopt};
  const RequestedGroup down_ = {"down", {"down"}, "", std::nullopt};
};

TEST_F(TensorsPlanTest, FindsWeightsAndActivationsOfEveryGroup) {
  const auto plan = Plan(Weights(), Activations(), {qk_, down_});
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->groups.size(), 2u);
  const PlannedGroup& qk = plan->groups[0];
  EXPECT_EQ(qk.in_features, 4);
  ASSERT_EQ(qk.linears.size(), 2u);
  EXPECT_EQ(qk.linears[0].weight.name, "q.weight");
  EXPECT_EQ(qk.linears[1].out_features(), 2);
  EXPECT_EQ(qk.input.name, "qk");
  EXPECT_THAT(qk.lengths, ElementsAre(5, 5));
  EXPECT_EQ(qk.WeightBytes(), 8 * 4 * 2 + 2 * 4 * 2);
  EXPECT_EQ(qk.ActivationBytes(), 2 * 5 * 4 * 4);

  const PlannedGroup& down = plan->groups[1];
  EXPECT_EQ(down.input.name, "down.input");
  EXPECT_THAT(down.lengths, ElementsAre(7)) << "[tokens, in] is one calibration row";
  EXPECT_EQ(plan->Bytes(), (64 + 16 + 160) + (3 * 6 * 4 + 7 * 6 * 2));
}

TEST_F(TensorsPlanTest, LengthsCutRowsShort) {
  std::vector<NamedTensor> activations = Activations();
  activations.push_back(Int64Tensor("qk.lengths", {0, 3}));
  const auto plan = Plan(Weights(), activations, {qk_});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->groups[0].lengths, ElementsAre(0, 3));
  EXPECT_EQ(plan->groups[0].ActivationBytes(), 3 * 4 * 4);
}

// Says what is wrong, and what the error has to say about it.
struct BadCase {
  const char* name;
  std::function<void(std::vector<NamedTensor>& weights, std::vector<NamedTensor>& activations,
                     std::vector<RequestedGroup>& specs)>
      spoil;
  absl::StatusCode code;
  std::vector<const char*> says;
};

const BadCase kBadCases[] = {
    {"no group",
     [](auto&, auto&, auto& specs) { specs.clear(); },
     absl::StatusCode::kInvalidArgument,
     {"a.safetensors", "expected at least one"}},
    {"missing weight",
     [](auto& weights, auto&, auto&) { weights[1].name = "kk.weight"; },
     absl::StatusCode::kNotFound,
     {"w.safetensors", "\"k.weight\"", "\"qk\""}},
    {"weight of rank 3",
     [](auto& weights, auto&, auto&) {
       weights[0].shape = {2, 4, 4};
     },
     absl::StatusCode::kInvalidArgument,
     {"w.safetensors", "\"q.weight\" is F16 [2, 4, 4]", "[out_features, in_features]"}},
    {"weight of integers",
     [](auto& weights, auto&, auto&) {
       weights[0] = PatternTensor("q.weight", DType::kI32, {8, 4});
     },
     absl::StatusCode::kInvalidArgument,
     {"\"q.weight\" is I32 [8, 4]", "F32, F16 or BF16"}},
    {"empty weight",
     [](auto& weights, auto&, auto&) {
       weights[0] = PatternTensor("q.weight", DType::kF16, {0, 4});
     },
     absl::StatusCode::kInvalidArgument,
     {"\"q.weight\" is F16 [0, 4]"}},
    {"Linears of different in_features",
     [](auto&, auto&, auto& specs) {
       specs[0].linears = {"q", "down"};
     },
     absl::StatusCode::kInvalidArgument,
     {"\"down.weight\" is F32 [3, 6]", "expected in_features 4", "\"q\""}},
    {"no activations",
     [](auto&, auto& activations, auto&) { activations[0].name = "kq"; },
     absl::StatusCode::kNotFound,
     {"a.safetensors", "\"qk\"", "\"qk.input\""}},
    {"two activations",
     [](auto&, auto& activations, auto&) {
       activations.push_back(PatternTensor("qk.input", DType::kF32, {1, 4}));
     },
     absl::StatusCode::kInvalidArgument,
     {"both \"qk\" and \"qk.input\""}},
    {"activations named by the group are not there",
     [](auto&, auto&, auto& specs) { specs[0].input = "hidden"; },
     absl::StatusCode::kNotFound,
     {"a.safetensors", "hidden"}},
    {"activations of other in_features",
     [](auto&, auto& activations, auto&) {
       activations[0] = PatternTensor("qk", DType::kF32, {2, 5, 3});
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk\" is F32 [2, 5, 3]", "[rows, tokens, 4]"}},
    {"activations of rank 1",
     [](auto&, auto& activations, auto&) {
       activations[0] = PatternTensor("qk", DType::kF32, {4});
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk\" is F32 [4]", "[tokens, 4]"}},
    {"activations of doubles",
     [](auto&, auto& activations, auto&) {
       activations[0] = PatternTensor("qk", DType::kF64, {5, 4});
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk\" is F64", "F32, F16 or BF16"}},
    {"no token",
     [](auto&, auto& activations, auto&) {
       activations[0] = PatternTensor("qk", DType::kF32, {3, 0, 4});
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk\" is F32 [3, 0, 4]", "at least one token"}},
    {"lengths of another number of rows",
     [](auto&, auto& activations, auto&) {
       activations.push_back(Int64Tensor("qk.lengths", {1, 2, 3}));
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk.lengths\" is I64 [3]", "I32 or I64 [2]"}},
    {"a length beyond the row",
     [](auto&, auto& activations, auto&) {
       activations.push_back(Int64Tensor("qk.lengths", {5, 6}));
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk.lengths\"[1] is 6", "expected 0 to 5"}},
    {"a negative length",
     [](auto&, auto& activations, auto&) {
       activations.push_back(Int64Tensor("qk.lengths", {-1, 5}));
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk.lengths\"[0] is -1"}},
    {"lengths that leave no token",
     [](auto&, auto& activations, auto&) {
       activations.push_back(Int64Tensor("qk.lengths", {0, 0}));
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk.lengths\" is all 0"}},
    {"two groups of one name",
     [](auto&, auto&, auto& specs) { specs.push_back(specs[0]); },
     absl::StatusCode::kInvalidArgument,
     {"group \"qk\" is named twice"}},
    {"a Linear in two groups",
     [](auto&, auto&, auto& specs) { specs[1].linears = {"q"}; },
     absl::StatusCode::kInvalidArgument,
     {"Linear \"q\" is named twice"}},
    {"a name that is too long",
     [](auto&, auto&, auto& specs) { specs[0].name = std::string(513, 'g'); },
     absl::StatusCode::kInvalidArgument,
     {"has 513 bytes", "1 to 512"}},
    {"heads that do not divide in_features",
     [](auto&, auto&, auto& specs) {
       specs[0].tied_heads = TiedHeadsSpec{2, 3};
     },
     absl::StatusCode::kInvalidArgument,
     {"\"qk\"", "head_dim 2", "in_features 4"}},
};

TEST_F(TensorsPlanTest, WhatDoesNotFitIsNamedWithFileTensorAndExpectation) {
  for (const BadCase& bad : kBadCases) {
    SCOPED_TRACE(bad.name);
    std::vector<NamedTensor> weights = Weights();
    std::vector<NamedTensor> activations = Activations();
    std::vector<RequestedGroup> specs = {qk_, down_};
    bad.spoil(weights, activations, specs);
    const auto plan = Plan(weights, activations, specs);
    EXPECT_EQ(plan.status().code(), bad.code) << plan.status();
    for (const char* part : bad.says) EXPECT_THAT(plan.status().message(), HasSubstr(part));
  }
}

}  // namespace
}  // namespace salient::client
