#include "core/pack/gptq.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

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

GptqTensors AsReadGptq(const Tensors& tensors) {
  return {tensors[0], tensors[1], tensors[2], tensors[3]};
}

// The words AutoGPTQ's own packer wrote for this example.
TEST(GptqTest, GoldenWordsOfFourBits) {
  for (const bool v2 : {false, true}) {
    const absl::StatusOr<Tensors> tensors = PackGptq("m", PackingExample(), {4, v2});
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    ASSERT_EQ(tensors->size(), 4u);
    const NamedTensor& qweight = (*tensors)[0];
    EXPECT_EQ(qweight.name, "m.qweight");
    EXPECT_EQ(qweight.dtype, DType::kI32);
    EXPECT_THAT(qweight.shape, ElementsAre(2, 8));
    EXPECT_THAT(Words(qweight),
                ElementsAre(0x76543210, 0xA9876543, 0xDCBA9876, 0x0FEDCBA9, 0x3210FEDC, 0x6543210F,
                            0x98765432, 0xCBA98765, 0xFEDCBA98, 0x210FEDCB, 0x543210FE, 0x87654321,
                            0xBA987654, 0xEDCBA987, 0x10FEDCBA, 0x43210FED));
    const NamedTensor& qzeros = (*tensors)[1];
    EXPECT_EQ(qzeros.name, "m.qzeros");
    EXPECT_EQ(qzeros.dtype, DType::kI32);
    EXPECT_THAT(qzeros.shape, ElementsAre(2, 1));
    if (v2) {
      EXPECT_THAT(Words(qzeros), ElementsAre(0x87654321, 0xFEDCBA98));
    } else {
      EXPECT_THAT(Words(qzeros), ElementsAre(0x76543210, 0xEDCBA987));
    }
    const NamedTensor& scales = (*tensors)[2];
    EXPECT_EQ(scales.name, "m.scales");
    EXPECT_EQ(scales.dtype, DType::kF16);
    EXPECT_THAT(scales.shape, ElementsAre(2, 8));
    for (int g = 0; g < 2; ++g) {
      for (int n = 0; n < 8; ++n) {
        EXPECT_EQ(Floats(scales)[g * 8 + n], std::ldexp(1.0f, -(2 + g + n % 4)));
      }
    }
    const NamedTensor& g_idx = (*tensors)[3];
    EXPECT_EQ(g_idx.name, "m.g_idx");
    EXPECT_EQ(g_idx.dtype, DType::kI32);
    EXPECT_THAT(g_idx.shape, ElementsAre(16));
    EXPECT_THAT(Words(g_idx), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  }
}

TEST(GptqTest, GoldenZerosOfSymmetricWeights) {
  for (const auto& [bits, v1, v2] :
       {std::tuple{4, 0x77777777u, 0x88888888u}, std::tuple{8, 0x7F7F7F7Fu, 0x80808080u}}) {
    const AffineGroups groups = RandomGroups(8, 16, {bits, 8, true}, 1);
    const std::vector<uint32_t> old_words = Words((*PackGptq("m", groups, {bits, false}))[1]);
    const std::vector<uint32_t> new_words = Words((*PackGptq("m", groups, {bits, true}))[1]);
    EXPECT_EQ(old_words, std::vector<uint32_t>(old_words.size(), v1));
    EXPECT_EQ(new_words, std::vector<uint32_t>(new_words.size(), v2));
    EXPECT_EQ(new_words.size(), 2u * 8 * bits / 32);
  }
}

// A word has four codes, the first in the lowest byte; they are written by hand.
TEST(GptqTest, EightBitsAreBytes) {
  AffineGroups groups = RandomGroups(4, 8, {8, 4, false}, 2);
  for (int n = 0; n < 4; ++n) {
    for (int k = 0; k < 8; ++k) groups.codes[n * 8 + k] = static_cast<uint8_t>(0x10 * n + k + 0xC0);
    groups.zero_points[2 * n] = static_cast<uint8_t>(n + 1);
    groups.zero_points[2 * n + 1] = static_cast<uint8_t>(0xF0 + n);
  }
  const Tensors tensors = *PackGptq("m", groups, {8, false});
  EXPECT_THAT(Words(tensors[0]), ElementsAre(0xC3C2C1C0, 0xD3D2D1D0, 0xE3E2E1E0, 0xF3F2F1F0,
                                             0xC7C6C5C4, 0xD7D6D5D4, 0xE7E6E5E4, 0xF7F6F5F4));
  EXPECT_THAT(Words(tensors[1]), ElementsAre(0x03020100, 0xF2F1F0EF));
}

// With in 64, out 32, group 32 they are q[k][n] = (3k + n) mod 8, z[n][g] = (n + 2g) mod 7 + 1 of
// output n and group g. GPTQModel's own packers wrote the words; v1 is the same of z - 1.
TEST(GptqTest, GoldenWordsOfThreeBits) {
  AffineGroups groups = RandomGroups(32, 64, {3, 32, false}, 3);
  for (int n = 0; n < 32; ++n) {
    for (int k = 0; k < 64; ++k) groups.codes[n * 64 + k] = static_cast<uint8_t>((3 * k + n) % 8);
    for (int g = 0; g < 2; ++g) {
      groups.zero_points[n * 2 + g] = static_cast<uint8_t>((n + 2 * g) % 7 + 1);
    }
  }
  const Tensors v2 = *PackGptq("m", groups, {3, true});
  EXPECT_THAT(v2[0].shape, ElementsAre(6, 32));
  EXPECT_THAT(v2[1].shape, ElementsAre(2, 3));
  const std::vector<uint32_t> qweight = Words(v2[0]);
  const std::vector<uint32_t> columns[2] = {{0x98ABC398, 0xC398ABC3, 0xABC398AB},
                                            {0xE1CC55E1, 0x55E1CC55, 0xCC55E1CC}};
  for (int r = 0; r < 6; ++r) {
    for (int n = 0; n < 2; ++n) EXPECT_EQ(qweight[r * 32 + n], columns[n][r % 3]) << r << " " << n;
  }
  EXPECT_THAT(Words(v2[1]),
              ElementsAre(0x1A3F58D1, 0xFD6347EB, 0x8D1FAC68, 0xAC68FD63, 0xA3F58D1F, 0xD6347EB1));
  const Tensors v1 = *PackGptq("m", groups, {3, false});
  EXPECT_EQ(Words(v1[0]), qweight);
  EXPECT_THAT(Words(v1[1]),
              ElementsAre(0xD11AC688, 0x6B1A2358, 0x688D6344, 0x63446B1A, 0x11AC688D, 0xB1A2358D));
}

TEST(GptqTest, DecodingGivesWhatTheCodesMean) {
  for (const int bits : {3, 4, 8}) {
    for (const int64_t group_size : {int64_t{32}, kWholeRow}) {
      for (const bool v2 : {false, true}) {
        const AffineGroups groups = RandomGroups(96, 160, {bits, group_size, false}, 4);
        const Tensors tensors = *PackGptq("m", groups, {bits, v2});
        const GptqTensors read = AsReadGptq(tensors);
        EXPECT_TRUE(CheckGptq("f", read, {bits, v2}, 96, 160, group_size).ok());
        EXPECT_TRUE(CheckGptq("f", read, {bits, v2}, 96, 160, 0).ok());
        const std::vector<float> expected = Decoded(groups);
        EXPECT_EQ(testing::ValuesOf(*DecodeGptq("f", read, {bits, v2}, 0, 96)), expected) << bits;
        // No tile begins at this part.
        EXPECT_EQ(testing::ValuesOf(*DecodeGptq("f", read, {bits, v2}, 37, 21)),
                  std::vector<float>(expected.begin() + 37 * 160, expected.begin() + 58 * 160));
        GptqTensors without = read;
        without.g_idx = {};
        EXPECT_EQ(testing::ValuesOf(*DecodeGptq("f", without, {bits, v2}, 0, 96)), expected);
      }
    }
  }
}

// Columns of any group, as act-order writes them: the same codes under other maps.
TEST(GptqTest, ColumnsBelongToTheGroupThatIsSaid) {
  const AffineGroups groups = RandomGroups(8, 64, {4, 16, false}, 5);
  Tensors tensors = *PackGptq("m", groups, {4, true});
  std::vector<int32_t> group(64);
  for (int k = 0; k < 64; ++k) group[k] = k * 7 % 4;
  std::memcpy(tensors[3].data.data(), group.data(), 256);
  const Matrix decoded = *DecodeGptq("f", AsReadGptq(tensors), {4, true}, 0, 8);
  for (int n = 0; n < 8; ++n) {
    for (int k = 0; k < 64; ++k) {
      const int at = n * 4 + group[k];
      EXPECT_EQ(decoded.Row(n)[k], groups.scales[at] * static_cast<float>(groups.codes[n * 64 + k] -
                                                                          groups.zero_points[at]));
    }
  }
  group[9] = 4;
  std::memcpy(tensors[3].data.data(), group.data(), 256);
  const absl::Status status = DecodeGptq("f", AsReadGptq(tensors), {4, true}, 0, 8).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "f: tensor \"m.g_idx\": element 9 is 4; expected 0 to 3, a group that there is");
}

// 15 stored is 16, not 0: what exllama's kernels and AutoGPTQ compute with.
TEST(GptqTest, TheLargestStoredZeroPointIsOneMore) {
  AffineGroups groups = RandomGroups(8, 8, {4, 8, false}, 6);
  Tensors tensors = *PackGptq("m", groups, {4, false});
  std::fill(tensors[1].data.begin(), tensors[1].data.end(), std::byte{0xFF});
  const Matrix decoded = *DecodeGptq("f", AsReadGptq(tensors), {4, false}, 0, 1);
  EXPECT_EQ(decoded.Row(0)[0], groups.scales[0] * static_cast<float>(groups.codes[0] - 16));
}

TEST(GptqTest, PartsPackWhatTheWholeDoes) {
  for (const int bits : {3, 4, 8}) {
    const AffineGroups groups = RandomGroups(160, 64, {bits, 32, false}, 7);
    Tensors parts = *StartGptq("m", groups, {bits, false});
    for (const auto& [first, last] : {std::pair{128, 160}, {0, 32}, {32, 128}}) {
      PackGptqOutputs(groups, {bits, false}, first, last, parts);
    }
    const Tensors whole = *PackGptq("m", groups, {bits, false});
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(parts[i].data, whole[i].data) << i;
  }
}

TEST(GptqTest, WhatTheLayoutCannotHoldIsInvalidArgument) {
  const auto error = [](const AffineGroups& groups, const GptqLayout& layout) {
    const absl::Status status = PackGptq("m", groups, layout).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error(RandomGroups(32, 32, {5, 32}, 1), {5, true}), HasSubstr("bits is 5"));
  EXPECT_THAT(error(RandomGroups(32, 32, {4, 32}, 1), {8, true}), HasSubstr("they have 4"));
  EXPECT_THAT(error(RandomGroups(8, 32, {3, 32}, 1), {3, true}),
              HasSubstr("out_features to be a multiple of 32 for 3 bits; it is 8"));
  EXPECT_THAT(error(RandomGroups(32, 6, {8, 6}, 1), {8, true}),
              HasSubstr("in_features to be a multiple of 4 for 8 bits; it is 6"));
  EXPECT_THAT(error(RandomGroups(8, 8, {4, 8, false, DType::kF32}, 1), {4, true}),
              HasSubstr("they are F32"));
  AffineGroups zero = PackingExample();
  zero.zero_points[3] = 0;
  EXPECT_THAT(error(zero, {4, false}), HasSubstr("a zero point is 0"));
  EXPECT_TRUE(PackGptq("m", zero, {4, true}).ok());
}

TEST(GptqTest, FilesThatDoNotFitAreNamed) {
  const GptqLayout layout{4, false};
  const GptqTensors good = AsReadGptq(*PackGptq("m", PackingExample(), layout));
  const auto error = [&](const auto& change, int64_t group_size = 8) {
    GptqTensors tensors = good;
    change(tensors);
    const absl::Status status = CheckGptq("f", tensors, layout, 8, 16, group_size);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error([](GptqTensors& t) { t.qweight.dtype = DType::kU32; }),
              HasSubstr("f: tensor \"m.qweight\": dtype is U32; expected I32"));
  EXPECT_THAT(
      error([](GptqTensors& t) {
        t.qweight.shape = {16, 1};
      }),
      HasSubstr("\"m.qweight\": shape is [16, 1]; expected [2, 8] for [8, 16] in 2 groups"));
  EXPECT_THAT(error([](GptqTensors& t) { t.qzeros.shape = {1, 1}; }), HasSubstr("expected [2, 1]"));
  EXPECT_THAT(error([](GptqTensors& t) { t.scales.dtype = DType::kI32; }),
              HasSubstr("expected F16, BF16 or F32"));
  EXPECT_THAT(error([](GptqTensors& t) { t.scales.shape = {2, 4}; }), HasSubstr("expected [2, 8]"));
  EXPECT_THAT(error([](GptqTensors& t) { t.g_idx.shape = {8}; }), HasSubstr("expected [16]"));
  EXPECT_THAT(error([](GptqTensors&) {}, -7), HasSubstr("group_size is -7"));
  EXPECT_THAT(error([](GptqTensors& t) { t.g_idx = {}; }, 7), HasSubstr("group_size is 7"));
  EXPECT_THAT(error([](GptqTensors& t) { t.scales.shape = {}; }, 0), HasSubstr("shape is []"));
}

}  // namespace
}  // namespace salient
