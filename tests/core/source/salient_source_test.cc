#include "core/source/salient_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/method/salient_fp16.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/small_model.h"
#include "tests/core/source/any_range.h"
#include "tests/support/altered_source.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::Must;
using testing::SmallModel;
using testing::TestsDirectory;

// It is [768, 256]: twelve tiles.
constexpr char kWeight[] = "model.layers.1.mlp.gate_proj.weight";
constexpr int64_t kMlpOut = 768;
constexpr int64_t kMlpIn = 256;

class SalientSourceTest : public ::testing::Test {
 protected:
  SalientSourceTest() : model_(TestsDirectory() + "data/pocket-llama") {
    format_.bits = 3;
    format_.group_size = 128;
  }

  static std::vector<std::byte> Read(const TensorSource& source, const std::string& tensor) {
    const TensorLocation found = Must(source.Find(tensor));
    std::vector<std::byte> bytes(static_cast<size_t>(found.entry->SizeBytes()));
    const absl::Status status = source.ReadRange(tensor, 0, absl::MakeSpan(bytes));
    EXPECT_TRUE(status.ok()) << status;
    return bytes;
  }

  SmallModel model_;
  WeightFormat format_;
  const KeptChannels kept_ = {{kWeight, {3, 128, 255}}};
};

TEST_F(SalientSourceTest, ShowsTheRoundedWeightAndAllElseAsItIs) {
  const auto source = Must(SalientFp16Source(model_.checkpoint, format_, kept_));
  const TensorLocation found = Must(source->Find(kWeight));
  EXPECT_EQ(found.entry->dtype, DType::kF32);
  EXPECT_EQ(found.entry->shape, (std::vector<int64_t>{kMlpOut, kMlpIn}));
  const std::vector<std::byte> stored = Read(model_.checkpoint, kWeight);
  const Matrix expected = Must(
      RoundSalientFp16({DType::kF16, stored.data(), kMlpOut, kMlpIn}, kept_.at(kWeight), format_));
  const std::vector<std::byte> shown = Read(*source, kWeight);
  ASSERT_EQ(shown.size(), static_cast<size_t>(4 * kMlpOut * kMlpIn));
  EXPECT_EQ(std::memcmp(shown.data(), expected.data(), shown.size()), 0);
  const std::string other = "model.layers.0.mlp.gate_proj.weight";
  EXPECT_EQ(Read(*source, other), Read(model_.checkpoint, other));
  EXPECT_TRUE(absl::IsNotFound(source->Find("no such tensor").status()));
  EXPECT_TRUE(source->IsHere(kWeight));
}

TEST_F(SalientSourceTest, AnyRangeIsThatOfTheWhole) {
  const auto source = Must(SalientFp16Source(model_.checkpoint, format_, kept_));
  testing::ExpectAnyRange(*source, kWeight, Read(*source, kWeight), 60, 200000);
  EXPECT_TRUE(source->ReadRange(kWeight, 8, {}).ok());
}

TEST_F(SalientSourceTest, WhatCannotBeRoundedIsNamed) {
  EXPECT_TRUE(absl::IsNotFound(
      SalientFp16Source(model_.checkpoint, format_, {{"nobody.weight", {}}}).status()));
  const absl::Status vector =
      SalientFp16Source(model_.checkpoint, format_, {{"model.norm.weight", {}}}).status();
  EXPECT_EQ(vector.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(vector.message()), HasSubstr("\"model.norm.weight\" is F16 of 1"));

  testing::AlteredSource altered(model_.checkpoint);
  NamedTensor weight{kWeight, DType::kF16, {kMlpOut, kMlpIn}, Read(model_.checkpoint, kWeight)};
  const uint16_t infinity = 0x7C00;
  std::memcpy(weight.data.data() + 2 * (70 * kMlpIn + 7), &infinity, 2);
  altered.Put(std::move(weight));
  const auto source = Must(SalientFp16Source(altered, format_, kept_));
  std::vector<std::byte> bytes(4 * kMlpOut * kMlpIn);
  const absl::Status status = source->ReadRange(kWeight, 0, absl::MakeSpan(bytes));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(std::string(kWeight) + ": element [70, 7] is inf"));
}

}  // namespace
}  // namespace salient
