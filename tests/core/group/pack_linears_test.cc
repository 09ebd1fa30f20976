#include "core/group/pack_linears.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/stored_format.h"
#include "tests/core/pack/packing_example.h"
#include "tests/support/thread_executor.h"

namespace salient {
namespace {

using testing::Decoded;
using testing::Floats;
using ::testing::HasSubstr;
using testing::RandomGroups;

constexpr int64_t kInputs = 96;

std::vector<StoredFormat> AllFormats() {
  using F = OutputFormat;
  std::vector<StoredFormat> formats = {{{4, 32, false}, F::kAwqGemm}};
  for (const int bits : {3, 4, 8}) {
    formats.push_back({{bits, 32, true}, F::kGptq});
    formats.push_back({{bits, 32, false}, F::kGptqV2});
  }
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {false, true}) {
      formats.push_back({{bits, kWholeRow, symmetric}, F::kCompressedTensors});
    }
  }
  for (const int64_t group_size : {kWholeRow, kWholeTensor}) {
    const WeightFormat format{8, group_size, true, DType::kF32};
    formats.push_back({format, F::kIntQuantized, ActivationFormat::kDynamicToken});
    formats.push_back({format, F::kIntQuantized, ActivationFormat::kStaticTensor});
  }
  formats.push_back({{5, 16, true}, F::kScaledFp16});
  formats.push_back({{7, 16, false}, F::kDequantizedFp16});
  return formats;
}

// Two Linears of different heights, several tiles each.
class PackLinearsTest : public ::testing::TestWithParam<StoredFormat> {
 protected:
  PackLinearsTest() {
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal;
    for (const int64_t outputs : {int64_t{320}, int64_t{160}}) {
      std::vector<float>& weight = weights_.emplace_back();
      for (int64_t i = 0; i < outputs * kInputs; ++i) weight.push_back(normal(random));
      groups_.push_back(RandomGroups(outputs, kInputs, GetParam().format, 2));
      if (GetParam().format.group_size == kWholeTensor) {
        groups_.back().scales.assign(static_cast<size_t>(outputs), 0.25f);
      }
    }
    for (int64_t k = 0; k < kInputs; ++k) scales_.push_back(0.5f + std::abs(normal(random)));
  }

  std::vector<FinishedLinear> Linears() const {
    std::vector<FinishedLinear> linears;
    for (size_t i = 0; i < groups_.size(); ++i) {
      const WeightView view{DType::kF32, reinterpret_cast<const std::byte*>(weights_[i].data()),
                            groups_[i].out_features, kInputs};
      const bool scaled = GetParam().output == OutputFormat::kScaledFp16;
      const bool is_static = GetParam().activations == ActivationFormat::kStaticTensor;
      linears.push_back({absl::StrCat("m", i), view, scales_, scaled ? nullptr : &groups_[i],
                         is_static ? 0.5f : 0});
    }
    return linears;
  }

  std::vector<std::vector<float>> weights_;
  std::vector<AffineGroups> groups_;
  std::vector<float> scales_;
};

TEST_P(PackLinearsTest, MakesTheTensorsThatAreForetoldForAnyExecutor) {
  const StoredFormat& stored = GetParam();
  SerialExecutor serial;
  testing::ThreadExecutor threads(3);
  const auto packed = PackLinears(Linears(), stored, serial);
  ASSERT_TRUE(packed.ok()) << packed.status();
  const auto parallel = PackLinears(Linears(), stored, threads);
  ASSERT_TRUE(parallel.ok()) << parallel.status();
  ASSERT_EQ(packed->size(), 2u);
  for (size_t i = 0; i < packed->size(); ++i) {
    const std::string name = absl::StrCat("m", i);
    EXPECT_TRUE(CheckLayout(name, groups_[i].out_features, kInputs, stored).ok());
    const std::vector<TensorShape> foretold =
        PackedTensors(name, groups_[i].out_features, kInputs, stored);
    ASSERT_EQ((*packed)[i].size(), foretold.size());
    for (size_t t = 0; t < foretold.size(); ++t) {
      const NamedTensor& tensor = (*packed)[i][t];
      EXPECT_EQ(tensor.name, foretold[t].name);
      EXPECT_EQ(tensor.dtype, foretold[t].dtype) << tensor.name;
      EXPECT_EQ(tensor.shape, foretold[t].shape) << tensor.name;
      EXPECT_EQ(static_cast<int64_t>(tensor.data.size()), foretold[t].SizeBytes()) << tensor.name;
      EXPECT_EQ(tensor.data, (*parallel)[i][t].data) << tensor.name;
    }
  }
}

TEST_P(PackLinearsTest, PlainWeightsAreRoundedOnce) {
  const StoredFormat& stored = GetParam();
  const bool scaled = stored.output == OutputFormat::kScaledFp16;
  if (!scaled && stored.output != OutputFormat::kDequantizedFp16) return;
  testing::ThreadExecutor threads(2);
  const auto packed = PackLinears(Linears(), stored, threads);
  ASSERT_TRUE(packed.ok()) << packed.status();
  for (size_t i = 0; i < packed->size(); ++i) {
    std::vector<float> expected = Decoded(groups_[i]);
    for (size_t at = 0; at < expected.size(); ++at) {
      if (scaled) expected[at] = weights_[i][at] * scales_[at % kInputs];
      expected[at] = RoundToF16(expected[at]);
    }
    EXPECT_EQ(Floats((*packed)[i][0]), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, PackLinearsTest, ::testing::ValuesIn(AllFormats()));

TEST(CheckLayoutTest, ShapesThatALayoutCannotHoldAreNamed) {
  const auto error = [](int64_t outputs, int64_t inputs, const StoredFormat& stored) {
    return std::string(CheckLayout("x.o_proj", outputs, inputs, stored).message());
  };
  using F = OutputFormat;
  EXPECT_THAT(error(12, 64, {{4, 32}, F::kAwqGemm}),
              HasSubstr("x.o_proj: out_features is 12; expected a multiple of 8 for awq-gemm of 4 "
                        "bits; compressed-tensors holds any"));
  EXPECT_THAT(error(40, 64, {{3, 32}, F::kGptqV2}),
              HasSubstr("out_features is 40; expected a multiple of 32 for gptq-v2 of 3 bits; "
                        "dequantized-fp16 holds any"));
  EXPECT_THAT(error(64, 36, {{4, 12, true}, F::kGptq}),
              HasSubstr("in_features is 36; expected a multiple of 8 for gptq"));
  EXPECT_THAT(error(64, 64, {{4, 32}, F::kGptq}), HasSubstr("x.o_proj: symmetric is false"));
  EXPECT_EQ(error(64, 36, {{4, 12}, F::kAwqGemm}), "");
  EXPECT_EQ(error(12, 36, {{8, 12, true}, F::kGptq}), "");
  EXPECT_EQ(error(13, 39, {{4, 13}, F::kCompressedTensors}), "");
}

TEST(PackLinearsErrorsTest, WhatF16CannotHoldIsNamed) {
  const std::vector<float> weight = {1, 2, 3, 60000};
  const std::vector<float> scales = {1, 2};
  const WeightView view{DType::kF32, reinterpret_cast<const std::byte*>(weight.data()), 2, 2};
  SerialExecutor executor;
  const absl::Status status = PackLinears(std::vector<FinishedLinear>{{"m", view, scales}},
                                          {{4, 2}, OutputFormat::kScaledFp16}, executor)
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("m.weight: element [1, 1] is 120000"));
}

}  // namespace
}  // namespace salient
