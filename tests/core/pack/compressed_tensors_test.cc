#include "core/pack/compressed_tensors.h"

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
using testing::PackingExample;
using testing::RandomGroups;
using testing::Words;

using Tensors = std::vector<NamedTensor>;

CompressedTensors AsRead(const Tensors& tensors) {
  CompressedTensors read;
  read.weight_packed = tensors[0];
  read.weight_scale = tensors[1];
  if (tensors.size() > 3) read.weight_zero_point = tensors[3];
  return read;
}

std::vector<int64_t> Shape(const NamedTensor& tensor) {
  std::vector<int64_t> shape(tensor.data.size() / 8);
  std::memcpy(shape.data(), tensor.data.data(), tensor.data.size());
  return shape;
}

// The words compressed-tensors' own packer wrote for this example.
TEST(CompressedTensorsTest, GoldenWords) {
  const absl::StatusOr<Tensors> tensors = PackCompressedTensors("m", PackingExample());
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 4u);
  const NamedTensor& packed = (*tensors)[0];
  EXPECT_EQ(packed.name, "m.weight_packed");
  EXPECT_EQ(packed.dtype, DType::kI32);
  EXPECT_THAT(packed.shape, ElementsAre(8, 2));
  EXPECT_THAT(Words(packed),
              ElementsAre(0x76543210, 0xFEDCBA98, 0xA9876543, 0x210FEDCB, 0xDCBA9876, 0x543210FE,
                          0x0FEDCBA9, 0x87654321, 0x3210FEDC, 0xBA987654, 0x6543210F, 0xEDCBA987,
                          0x98765432, 0x10FEDCBA, 0xCBA98765, 0x43210FED));
  const NamedTensor& scale = (*tensors)[1];
  EXPECT_EQ(scale.name, "m.weight_scale");
  EXPECT_EQ(scale.dtype, DType::kF16);
  EXPECT_THAT(scale.shape, ElementsAre(8, 2));
  EXPECT_EQ(Floats(scale), PackingExample().scales);
  const NamedTensor& shape = (*tensors)[2];
  EXPECT_EQ(shape.name, "m.weight_shape");
  EXPECT_EQ(shape.dtype, DType::kI64);
  EXPECT_THAT(shape.shape, ElementsAre(2));
  EXPECT_THAT(Shape(shape), ElementsAre(8, 16));
  const NamedTensor& zero_point = (*tensors)[3];
  EXPECT_EQ(zero_point.name, "m.weight_zero_point");
  EXPECT_EQ(zero_point.dtype, DType::kI32);
  EXPECT_THAT(zero_point.shape, ElementsAre(1, 2));
  EXPECT_THAT(Words(zero_point), ElementsAre(0x87654321, 0xFEDCBA98));
}

// Makes signed values from -8 on, one group a row.
AffineGroups SymmetricRow(const std::vector<int>& values) {
  AffineGroups groups;
  groups.out_features = 1;
  groups.in_features = static_cast<int64_t>(values.size());
  groups.format = {4, kWholeRow, true};
  for (const int value : values) groups.codes.push_back(static_cast<uint8_t>(value + 8));
  groups.scales = {0.5f};
  groups.zero_points = {8};
  return groups;
}

TEST(CompressedTensorsTest, GoldenWordsOfSymmetricRows) {
  const Tensors row = *PackCompressedTensors(
      "m", SymmetricRow({-8, -5, -2, 1, 4, 7, -6, -3, 0, 3, 6, -7, -4, -1, 2, 5}));
  EXPECT_EQ(row.size(), 3u) << "no zero points: engines that expect none cannot load any";
  EXPECT_THAT(Words(row[0]), ElementsAre(0x52FC9630, 0xDA741EB8));
  EXPECT_THAT(row[1].shape, ElementsAre(1, 1));
}

// Columns that do not fill the last word.
TEST(CompressedTensorsTest, GoldenPaddingIsZero) {
  const AffineGroups groups = SymmetricRow({-8, -7, -6, -5, -4, -3, -2, -1, 0, 1});
  const Tensors tensors = *PackCompressedTensors("m", groups);
  EXPECT_THAT(Words(tensors[0]), ElementsAre(0x76543210, 0x00000098));
  EXPECT_THAT(Shape(tensors[2]), ElementsAre(1, 10));
  EXPECT_EQ(testing::ValuesOf(*DecodeCompressedTensors("f", AsRead(tensors), 4, 10, 0, 1)),
            Decoded(groups));
}

// A word has four codes, 128 more than the signed ones; they are written by hand.
TEST(CompressedTensorsTest, EightBitsAreBytes) {
  AffineGroups groups = RandomGroups(2, 6, {8, 6, false}, 1);
  groups.codes = {0, 1, 2, 255, 128, 127, 16, 17, 18, 19, 20, 21};
  groups.zero_points = {128, 3};
  const Tensors tensors = *PackCompressedTensors("m", groups);
  EXPECT_THAT(Words(tensors[0]), ElementsAre(0xFF020100, 0x00007F80, 0x13121110, 0x00001514));
  EXPECT_THAT(Words(tensors[3]), ElementsAre(0x00000380));
}

TEST(CompressedTensorsTest, DecodingGivesWhatTheCodesMean) {
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {false, true}) {
      for (const int64_t group_size : {int64_t{25}, kWholeRow}) {
        // 75 outputs and columns fill no last word.
        const AffineGroups groups = RandomGroups(75, 75, {bits, group_size, symmetric}, 2);
        const CompressedTensors read = AsRead(*PackCompressedTensors("m", groups));
        EXPECT_TRUE(CheckCompressedTensors("f", read, bits, 75, 75, group_size).ok());
        EXPECT_TRUE(CheckCompressedTensors("f", read, bits, 75, 75, 0).ok());
        const std::vector<float> expected = Decoded(groups);
        EXPECT_EQ(testing::ValuesOf(*DecodeCompressedTensors("f", read, bits, 75, 0, 75)),
                  expected);
        EXPECT_EQ(testing::ValuesOf(*DecodeCompressedTensors("f", read, bits, 75, 41, 9)),
                  std::vector<float>(expected.begin() + 41 * 75, expected.begin() + 50 * 75));
      }
    }
  }
}

TEST(CompressedTensorsTest, ColumnsBelongToTheGroupThatIsSaid) {
  const AffineGroups groups = RandomGroups(8, 32, {4, 8, false}, 3);
  CompressedTensors read = AsRead(*PackCompressedTensors("m", groups));
  std::vector<int32_t> group(32);
  for (int k = 0; k < 32; ++k) group[k] = 3 - k / 8;
  read.weight_g_idx = {"m.weight_g_idx", DType::kI32, {32}, std::vector<std::byte>(128)};
  std::memcpy(read.weight_g_idx.data.data(), group.data(), 128);
  EXPECT_TRUE(CheckCompressedTensors("f", read, 4, 8, 32, 8).ok());
  const Matrix decoded = *DecodeCompressedTensors("f", read, 4, 32, 0, 8);
  EXPECT_EQ(decoded.Row(2)[0],
            groups.scales[2 * 4 + 3] *
                static_cast<float>(groups.codes[2 * 32] - groups.zero_points[2 * 4 + 3]));
  group[31] = -1;
  std::memcpy(read.weight_g_idx.data.data(), group.data(), 128);
  EXPECT_THAT(std::string(DecodeCompressedTensors("f", read, 4, 32, 0, 8).status().message()),
              HasSubstr("f: tensor \"m.weight_g_idx\": element 31 is -1; expected 0 to 3"));
}

TEST(CompressedTensorsTest, PartsPackWhatTheWholeDoes) {
  for (const int bits : {4, 8}) {
    const AffineGroups groups = RandomGroups(75, 24, {bits, 8, false}, 4);
    Tensors parts = *StartCompressedTensors("m", groups);
    for (const auto& [first, last] : {std::pair{64, 75}, {0, 8}, {8, 64}}) {
      PackCompressedOutputs(groups, first, last, parts);
    }
    const Tensors whole = *PackCompressedTensors("m", groups);
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(parts[i].data, whole[i].data) << i;
  }
}

TEST(CompressedTensorsTest, WhatTheLayoutCannotHoldIsInvalidArgument) {
  EXPECT_THAT(
      std::string(PackCompressedTensors("m", RandomGroups(8, 8, {3, 8}, 1)).status().message()),
      HasSubstr("bits is 3"));
  EXPECT_THAT(
      std::string(PackCompressedTensors("m", RandomGroups(8, 8, {4, 8, true, DType::kBF16}, 1))
                      .status()
                      .message()),
      HasSubstr("they are BF16"));
}

TEST(CompressedTensorsTest, FilesThatDoNotFitAreNamed) {
  const CompressedTensors good = AsRead(*PackCompressedTensors("m", PackingExample()));
  const auto error = [&](const auto& change, int bits = 4, int64_t group_size = 8) {
    CompressedTensors tensors = good;
    change(tensors);
    const absl::Status status = CheckCompressedTensors("f", tensors, bits, 8, 16, group_size);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  using T = CompressedTensors;
  EXPECT_THAT(error([](T&) {}, 5), HasSubstr("bits is 5; expected 4 or 8"));
  EXPECT_THAT(error([](T&) {}, 8),
              HasSubstr("f: tensor \"m.weight_packed\": shape is [8, 2]; expected [8, 4] for"));
  EXPECT_THAT(error([](T& t) { t.weight_scale.dtype = DType::kI8; }), HasSubstr("dtype is I8"));
  EXPECT_THAT(error([](T& t) { t.weight_scale.shape = {2, 8}; }), HasSubstr("expected [8, 2]"));
  EXPECT_THAT(error([](T& t) {
                t.weight_zero_point.shape = {8, 2};
              }),
              HasSubstr("\"m.weight_zero_point\": shape is [8, 2]; expected [1, 2]"));
  EXPECT_THAT(error([](T&) {}, 4, 5), HasSubstr("group_size is 5"));
  EXPECT_THAT(
      error(
          [](T& t) {
            t.weight_scale.shape = {8, 3};
          },
          4, 0),
      HasSubstr("shape is [8, 3]; expected in dimension 1 the groups of a row, a divisor of "
                "in_features, which is 16"));
}

}  // namespace
}  // namespace salient
