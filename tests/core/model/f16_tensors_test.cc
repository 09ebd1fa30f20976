#include "core/model/f16_tensors.h"

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

TEST(F16TensorsTest, VectorsAndWeightsKeepTheirNamesAndShapes) {
  const auto norm = ToF16(StoredVector{"n.weight", DType::kF32, {1, -0.5f, 65504}});
  ASSERT_TRUE(norm.ok()) << norm.status();
  EXPECT_EQ(norm->name, "n.weight");
  EXPECT_EQ(norm->dtype, DType::kF16);
  EXPECT_THAT(norm->shape, ElementsAre(3));
  EXPECT_THAT(Values(*norm), ElementsAre(1, -0.5f, 65504));
  const auto weight = ToF16(Bf16Linear({1, 2, 3, 4, 5, 6}, 2));
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ(weight->name, "model.layers.0.mlp.down_proj.weight");
  EXPECT_THAT(weight->shape, ElementsAre(2, 3));
  EXPECT_THAT(Values(*weight), ElementsAre(1, 2, 3, 4, 5, 6));
}

// 2^17 is a BF16, and no F16.
TEST(F16TensorsTest, WhatF16CannotHoldIsNamed) {
  const absl::Status bias =
      ToF16(StoredVector{"model.layers.0.self_attn.q_proj.bias", DType::kBF16, {0, 0x1p17f}})
          .status();
  EXPECT_EQ(bias.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(bias.message()),
      HasSubstr("model.layers.0.self_attn.q_proj.bias: element [0, 1] is 131072; expected"));
  const absl::Status weight = ToF16(Bf16Linear({1, 2, 3, 4, -0x1p17f, 6}, 2)).status();
  EXPECT_EQ(weight.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(weight.message()),
      HasSubstr("model.layers.0.mlp.down_proj.weight: element [1, 1] is -131072; expected"));
}

}  // namespace
}  // namespace salient
