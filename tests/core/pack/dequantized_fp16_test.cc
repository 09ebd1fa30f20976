#include "core/pack/dequantized_fp16.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<float> Widened(const NamedTensor& tensor) {
  std::vector<float> values(tensor.data.size() / 2);
  WidenToF32(DType::kF16, tensor.data.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

AffineGroups Groups(int bits, int64_t group_size) {
  AffineGroups groups;
  groups.out_features = 3;  // It is no multiple of anything.
  groups.in_features = 4;
  groups.format = {bits, group_size, false, DType::kF16};
  return groups;
}

// Computes scale (code - zero_point) by hand, in groups of two columns.
TEST(DequantizedFp16Test, DecodesEveryCodeWithTheMapOfItsGroup) {
  AffineGroups groups = Groups(3, 2);
  groups.codes = {0, 7, 3, 4, 1, 1, 1, 1, 6, 5, 0, 7};
  groups.scales = {0.5f, 0.25f, 2, 1, 0.125f, 4};
  groups.zero_points = {3, 4, 1, 0, 7, 2};
  const auto tensors = DequantizeToFp16("m", groups);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 1u);
  const NamedTensor& weight = tensors->front();
  EXPECT_EQ(weight.name, "m.weight");
  EXPECT_EQ(weight.dtype, DType::kF16);
  EXPECT_THAT(weight.shape, ElementsAre(3, 4));
  EXPECT_THAT(Widened(weight),
              ElementsAre(-1.5f, 2, -0.25f, 0, 0, 0, 1, 1, -0.125f, -0.25f, -8, 20));
}

TEST(DequantizedFp16Test, OneGroupForAWholeRowAndEightBits) {
  AffineGroups groups = Groups(8, -1);
  groups.format.scale_dtype = DType::kF32;
  groups.codes = {0, 255, 128, 127, 0, 0, 0, 0, 255, 254, 1, 0};
  // The last scale is 1/3 in f32: products round once, from f32 to F16.
  groups.scales = {1, 1, 1.0f / 3.0f};
  groups.zero_points = {128, 0, 0};
  const auto tensors = DequantizeToFp16("m", groups);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_THAT(Widened(tensors->front()),
              ElementsAre(-128, 127, 0, -1, 0, 0, 0, 0, 85, 84.6875f, 0.333251953125f, 0));
}

TEST(DequantizedFp16Test, WhatF16CannotHoldIsNamed) {
  AffineGroups groups = Groups(4, -1);
  groups.codes = {8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 0, 8};
  groups.scales = {1, 1, 10000};
  groups.zero_points = {8, 8, 8};
  const absl::Status status = DequantizeToFp16("model.layers.0.mlp.up_proj", groups).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model.layers.0.mlp.up_proj.weight: element [2, 2] is -80000; expected"));
}

}  // namespace
}  // namespace salient
