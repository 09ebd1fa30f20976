#include "core/pack/awq_gemm.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "gtest/gtest.h"
#include "tests/core/pack/packing_example.h"

namespace salient {
namespace {

using testing::PackingExample;
using testing::Words;

// The words AutoAWQ's own packer wrote for this example.
TEST(AwqGemmTest, GoldenWords) {
  const absl::StatusOr<std::vector<NamedTensor>> tensors = PackAwqGemm("m", PackingExample());
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 3u);
  const NamedTensor& qweight = (*tensors)[0];
  EXPECT_EQ(qweight.name, "m.qweight");
  EXPECT_EQ(qweight.dtype, DType::kI32);
  EXPECT_EQ(qweight.shape, (std::vector<int64_t>{16, 1}));
  EXPECT_EQ(
      Words(qweight),
      (std::vector<uint32_t>{0x5F932C60, 0x60A43D71, 0x71B54E82, 0x82C65F93, 0x93D760A4, 0xA4E871B5,
                             0xB5F982C6, 0xC60A93D7, 0xD71BA4E8, 0xE82CB5F9, 0xF93DC60A, 0x0A4ED71B,
                             0x1B5FE82C, 0x2C60F93D, 0x3D710A4E, 0x4E821B5F}));
  const NamedTensor& qzeros = (*tensors)[1];
  EXPECT_EQ(qzeros.name, "m.qzeros");
  EXPECT_EQ(qzeros.shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(Words(qzeros), (std::vector<uint32_t>{0x86427531, 0xFDB9ECA8}));
  const NamedTensor& scales = (*tensors)[2];
  EXPECT_EQ(scales.name, "m.scales");
  EXPECT_EQ(scales.dtype, DType::kF16);
  EXPECT_EQ(scales.shape, (std::vector<int64_t>{2, 8}));
  for (int g = 0; g < 2; ++g) {
    for (int n = 0; n < 8; ++n) {
      uint16_t bits;
      std::memcpy(&bits, scales.data.data() + 2 * (g * 8 + n), 2);
      EXPECT_EQ(F16ToF32(bits), std::ldexp(1.0f, -(2 + g + n % 4)));
    }
  }
}

TEST(AwqGemmTest, UnpackingGivesBackWhatWasPacked) {
  const AffineGroups groups = PackingExample();
  std::vector<NamedTensor> tensors = *PackAwqGemm("m", groups);
  AwqGemmTensors packed{tensors[0], tensors[1], tensors[2]};
  EXPECT_TRUE(CheckAwqGemm("file", packed, 8, 16, 8).ok());
  EXPECT_TRUE(CheckAwqGemm("file", packed, 8, 16, 0).ok());
  const AffineGroups found = UnpackAwqGemm(packed);
  EXPECT_EQ(found.out_features, 8);
  EXPECT_EQ(found.in_features, 16);
  EXPECT_EQ(found.format.group_size, 8);
  EXPECT_EQ(found.codes, groups.codes);
  EXPECT_EQ(found.zero_points, groups.zero_points);
  EXPECT_EQ(found.scales, groups.scales);
  std::vector<float> row(16);
  // Codes are k + 9, zero points 4 and 11, scales 2^-5 and 2^-6.
  found.DecodeRow(3, row.data());
  EXPECT_EQ(row[0], std::ldexp(9.0f - 4, -5));
  EXPECT_EQ(row[7], std::ldexp(0.0f - 4, -5));
  EXPECT_EQ(row[8], std::ldexp(1.0f - 11, -6));
}

TEST(AwqGemmTest, SymmetricZerosAreEights) {
  AffineGroups groups = PackingExample();
  groups.zero_points.assign(groups.zero_points.size(), 8);
  EXPECT_EQ(Words((*PackAwqGemm("m", groups))[1]), (std::vector<uint32_t>{0x88888888, 0x88888888}));
}

TEST(AwqGemmTest, WhatTheLayoutCannotHoldIsInvalidArgument) {
  AffineGroups bits = PackingExample();
  bits.format.bits = 3;
  EXPECT_EQ(PackAwqGemm("m", bits).status().code(), absl::StatusCode::kInvalidArgument);
  AffineGroups outputs = PackingExample();
  outputs.out_features = 7;
  const absl::Status status = PackAwqGemm("m", outputs).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("out_features"), absl::string_view::npos);
  AffineGroups dtype = PackingExample();
  dtype.format.scale_dtype = DType::kBF16;
  EXPECT_EQ(PackAwqGemm("m", dtype).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace salient
