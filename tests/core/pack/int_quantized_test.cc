#include "core/pack/int_quantized.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/tensor/dtype.h"
#include "tests/core/pack/packing_example.h"
#include "tests/support/matrix_view.h"

namespace salient {
namespace {

using testing::Decoded;
using ::testing::ElementsAre;
using testing::Floats;
using ::testing::HasSubstr;
using testing::RandomGroups;

using Tensors = std::vector<NamedTensor>;

std::vector<int> Codes(const NamedTensor& tensor) {
  std::vector<int> codes;
  for (const std::byte byte : tensor.data) codes.push_back(static_cast<int8_t>(byte));
  return codes;
}

// Makes W = [[.5, -1.27, .01], [2.54, 0, -2.54]] in steps of .01 and .02.
AffineGroups Example() {
  AffineGroups groups;
  groups.out_features = 2;
  groups.in_features = 3;
  groups.format = {8, kWholeRow, true, DType::kF32};
  groups.codes = {128 + 50, 128 - 127, 128 + 1, 128 + 127, 128, 128 - 127};
  groups.scales = {.01f, .02f};
  groups.zero_points = {128, 128};
  return groups;
}

TEST(IntQuantizedTest, GoldenCodes) {
  const absl::StatusOr<Tensors> tensors = PackIntQuantized("m", Example(), 0);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 2u) << "no input_scale: engines take each token's own";
  const NamedTensor& weight = (*tensors)[0];
  EXPECT_EQ(weight.name, "m.weight");
  EXPECT_EQ(weight.dtype, DType::kI8);
  EXPECT_THAT(weight.shape, ElementsAre(2, 3));
  EXPECT_THAT(Codes(weight), ElementsAre(50, -127, 1, 127, 0, -127));
  const NamedTensor& scale = (*tensors)[1];
  EXPECT_EQ(scale.name, "m.weight_scale");
  EXPECT_EQ(scale.dtype, DType::kF32);
  EXPECT_THAT(scale.shape, ElementsAre(2, 1));
  EXPECT_THAT(Floats(scale), ElementsAre(.01f, .02f));
  const Matrix decoded = DecodeIntQuantized({weight, scale}, 0, 2);
  EXPECT_THAT(testing::ValuesOf(decoded),
              ElementsAre(.01f * 50, .01f * -127, .01f, .02f * 127, 0.0f, .02f * -127));
}

TEST(IntQuantizedTest, StaticActivationsAddTheirScale) {
  const Tensors tensors = *PackIntQuantized("m", Example(), 0.75f);
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[2].name, "m.input_scale");
  EXPECT_EQ(tensors[2].dtype, DType::kF32);
  EXPECT_THAT(tensors[2].shape, ElementsAre(1));
  EXPECT_THAT(Floats(tensors[2]), ElementsAre(0.75f));
}

TEST(IntQuantizedTest, AWholeTensorHasOneScale) {
  AffineGroups groups = Example();
  groups.format.group_size = kWholeTensor;
  groups.scales = {.5f, .5f};
  const Tensors tensors = *PackIntQuantized("m", groups, 0);
  EXPECT_THAT(tensors[1].shape, ElementsAre(1));
  EXPECT_THAT(Floats(tensors[1]), ElementsAre(.5f));
  EXPECT_TRUE(CheckIntQuantized("f", {tensors[0], tensors[1]}, 2, 3).ok());
  EXPECT_EQ(testing::ValuesOf(DecodeIntQuantized({tensors[0], tensors[1]}, 0, 2)), Decoded(groups));
}

TEST(IntQuantizedTest, DecodingGivesWhatTheCodesMean) {
  const AffineGroups groups = RandomGroups(75, 33, {8, kWholeRow, true}, 1);
  const Tensors tensors = *PackIntQuantized("m", groups, 0);
  IntQuantizedTensors read{tensors[0], tensors[1]};
  EXPECT_TRUE(CheckIntQuantized("f", read, 75, 33).ok());
  const std::vector<float> expected = Decoded(groups);
  EXPECT_EQ(testing::ValuesOf(DecodeIntQuantized(read, 0, 75)), expected);
  EXPECT_EQ(testing::ValuesOf(DecodeIntQuantized(read, 40, 3)),
            std::vector<float>(expected.begin() + 40 * 33, expected.begin() + 43 * 33));
  // Other writers have it so.
  read.weight_scale.shape = {75};
  EXPECT_TRUE(CheckIntQuantized("f", read, 75, 33).ok());
  Tensors parts = *StartIntQuantized("m", groups, 0);
  PackIntQuantizedRows(groups, 40, 75, parts);
  PackIntQuantizedRows(groups, 0, 40, parts);
  EXPECT_EQ(parts[0].data, tensors[0].data);
}

TEST(IntQuantizedTest, WhatTheLayoutCannotHoldIsInvalidArgument) {
  const auto error = [](const WeightFormat& format) {
    const absl::Status status = PackIntQuantized("m", RandomGroups(8, 8, format, 1), 0).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error({4, kWholeRow, true}), HasSubstr("they have 4 bits"));
  EXPECT_THAT(error({8, 4, true}), HasSubstr("2 scales a row"));
  EXPECT_THAT(error({8, kWholeRow, false}), HasSubstr("and zero points"));
}

TEST(IntQuantizedTest, FilesThatDoNotFitAreNamed) {
  const Tensors tensors = *PackIntQuantized("m", Example(), 0);
  IntQuantizedTensors wrong{tensors[0], tensors[1]};
  wrong.weight.dtype = DType::kU8;
  EXPECT_EQ(CheckIntQuantized("f", wrong, 2, 3).message(),
            "f: tensor \"m.weight\": dtype is U8; expected I8");
  wrong = {tensors[0], tensors[1]};
  wrong.weight_scale.shape = {3, 1};
  EXPECT_THAT(std::string(CheckIntQuantized("f", wrong, 2, 3).message()),
              HasSubstr("\"m.weight_scale\": shape is [3, 1]; expected [2, 1] for [2, 3]"));
}

}  // namespace
}  // namespace salient
