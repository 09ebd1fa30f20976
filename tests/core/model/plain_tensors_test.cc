#include "core/model/plain_tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/tensor/half.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<float> Values(const NamedTensor& tensor) {
  std::vector<float> values(tensor.data.size() / 2);
  WidenToF32(DType::kF16, tensor.data.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

StoredLinear Bf16Linear(const std::vector<float>& values, int64_t rows) {
  StoredLinear linear;
  linear.name = "model.layers.0.mlp.down_proj";
  linear.dtype = DType::kBF16;
  linear.out_features = rows;
  linear.in_features = static_cast<int64_t>(values.size()) / rows;
  for (const float value : values) {
    const uint16_t bits = F32ToBF16(value);
    linear.weight.resize(linear.weight.size() + 2);
    std::memcpy(linear.weight.data() + linear.weight.size() - 2, &bits, 2);
  }
  return linear;
}

TEST(PlainTensorsTest, VectorsAndWeightsKeepTheirNamesAndShapes) {
  const auto norm =
      PlainTensor(StoredVector{"n.weight", DType::kF32, {1, -0.5f, 65504}}, DType::kF16);
  ASSERT_TRUE(norm.ok()) << norm.status();
  EXPECT_EQ(norm->name, "n.weight");
  EXPECT_EQ(norm->dtype, DType::kF16);
  EXPECT_THAT(norm->shape, ElementsAre(3));
  EXPECT_THAT(Values(*norm), ElementsAre(1, -0.5f, 65504));
  const auto weight = PlainTensor(Bf16Linear({1, 2, 3, 4, 5, 6}, 2), DType::kF16);
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ(weight->name, "model.layers.0.mlp.down_proj.weight");
  EXPECT_THAT(weight->shape, ElementsAre(2, 3));
  EXPECT_THAT(Values(*weight), ElementsAre(1, 2, 3, 4, 5, 6));
}

// 2^17 is a BF16, and no F16.
TEST(PlainTensorsTest, WhatF16CannotHoldIsNamed) {
  const absl::Status bias =
      PlainTensor(StoredVector{"model.layers.0.self_attn.q_proj.bias", DType::kBF16, {0, 0x1p17f}},
                  DType::kF16)
          .status();
  EXPECT_EQ(bias.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(bias.message()),
      HasSubstr("model.layers.0.self_attn.q_proj.bias: element [0, 1] is 131072; expected"));
  const absl::Status weight =
      PlainTensor(Bf16Linear({1, 2, 3, 4, -0x1p17f, 6}, 2), DType::kF16).status();
  EXPECT_EQ(weight.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(weight.message()),
      HasSubstr("model.layers.0.mlp.down_proj.weight: element [1, 1] is -131072; expected"));
}

// The values are all bit patterns that are numbers, subnormals and what F16 lacks included.
TEST(PlainTensorsTest, WhatCameInBF16KeepsItsBytes) {
  StoredLinear linear;
  linear.name = "m";
  linear.dtype = DType::kBF16;
  StoredVector vector{"v", DType::kBF16, {}};
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7F80) == 0x7F80) continue;
    const auto half = static_cast<uint16_t>(bits);
    linear.weight.resize(linear.weight.size() + 2);
    std::memcpy(linear.weight.data() + linear.weight.size() - 2, &half, 2);
    vector.values.push_back(BF16ToF32(half));
  }
  linear.out_features = 2;
  linear.in_features = static_cast<int64_t>(vector.values.size()) / 2;
  const auto weight = PlainTensor(linear, DType::kBF16);
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ(weight->dtype, DType::kBF16);
  EXPECT_EQ(weight->data, linear.weight);
  const auto bias = PlainTensor(vector, DType::kBF16);
  ASSERT_TRUE(bias.ok()) << bias.status();
  EXPECT_EQ(bias->dtype, DType::kBF16);
  EXPECT_EQ(bias->data, linear.weight);
}

}  // namespace
}  // namespace salient
