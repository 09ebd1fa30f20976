// The tensors outside the blocks, on their way to the result.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/result/quantized_checkpoint.h"
#include "core/tensor/half.h"
#include "tests/core/model/small_model.h"
#include "tests/support/altered_source.h"
#include "tests/support/random_model.h"

namespace salient {
namespace {

using ::testing::HasSubstr;
using testing::SmallModel;
using testing::TestsDirectory;

class CopyOuterTensorsTest : public ::testing::Test {
 protected:
  CopyOuterTensorsTest() : model_(TestsDirectory() + "golden/forward/untied_head") {}

  std::string Error(const TensorSource& source) {
    const absl::Status status = CopyOuterTensors(
        source, model_.config,
        [](const TensorShape&, int64_t, absl::Span<const std::byte>) { return absl::OkStatus(); });
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  SmallModel model_;
};

// The model is F32 but for a head in F16 or BF16, so that it is F16 or BF16.
TEST_F(CopyOuterTensorsTest, WhatTheDTypeCannotHoldIsNamed) {
  const std::vector<int64_t> shape = {model_.config.vocab_size, model_.config.hidden_size};
  for (const auto& [dtype, value, text] :
       {std::tuple{DType::kF32, 7e4f, "is 70000; expected a value that F16 can hold"},
        {DType::kF32, std::nanf(""), "is nan"},
        {DType::kF16, INFINITY, "is inf"},
        {DType::kBF16, std::nanf(""), "is nan; expected a value that BF16 can hold"}}) {
    testing::AlteredSource source(model_.checkpoint);
    std::mt19937_64 random(1);
    NamedTensor head = testing::RandomTensor({"lm_head.weight", shape}, dtype, random);
    const int64_t element = 5 * shape[1] + 3;
    const uint16_t half = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    if (dtype == DType::kF32) {
      std::memcpy(head.data.data() + 4 * element, &value, 4);
    } else {
      std::memcpy(head.data.data() + 2 * element, &half, 2);
    }
    source.Put(head);
    EXPECT_THAT(Error(source), HasSubstr("lm_head.weight: element [5, 3] " + std::string(text)));
  }
}

// Each tensor keeps the dtype and bytes that it came in; what came in F32 gets the model's dtype,
// which is BF16 because something is.
TEST_F(CopyOuterTensorsTest, BytesOf16BitTensorsStay) {
  const int64_t hidden = model_.config.hidden_size;
  const std::vector<int64_t> shape = {model_.config.vocab_size, hidden};
  testing::AlteredSource source(model_.checkpoint);
  std::mt19937_64 random(1);
  NamedTensor embeddings =
      testing::RandomTensor({"model.embed_tokens.weight", shape}, DType::kBF16, random);
  const uint16_t large = F32ToBF16(0x1p17f);
  std::memcpy(embeddings.data.data() + 6, &large, 2);
  const NamedTensor head = testing::RandomTensor({"lm_head.weight", shape}, DType::kF16, random);
  const std::vector<float> norm(static_cast<size_t>(hidden), 0x1.03p17f);
  std::vector<std::byte> wide(4 * norm.size());
  std::memcpy(wide.data(), norm.data(), wide.size());
  source.Put(embeddings);
  source.Put(head);
  source.Put({"model.norm.weight", DType::kF32, {hidden}, wide});
  std::map<std::string, NamedTensor> received;
  const absl::Status status =
      CopyOuterTensors(source, model_.config,
                       [&](const TensorShape& tensor, int64_t, absl::Span<const std::byte> bytes) {
                         NamedTensor& to = received[tensor.name];
                         to.dtype = tensor.dtype;
                         to.data.insert(to.data.end(), bytes.begin(), bytes.end());
                         return absl::OkStatus();
                       });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(received[embeddings.name].dtype, DType::kBF16);
  EXPECT_EQ(received[embeddings.name].data, embeddings.data);
  EXPECT_EQ(received[head.name].dtype, DType::kF16);
  EXPECT_EQ(received[head.name].data, head.data);
  const NamedTensor& narrow = received["model.norm.weight"];
  EXPECT_EQ(narrow.dtype, DType::kBF16);
  ASSERT_EQ(narrow.data.size(), wide.size() / 2);
  uint16_t bits;
  std::memcpy(&bits, narrow.data.data() + 2, 2);
  EXPECT_EQ(BF16ToF32(bits), 0x1.04p17f) << "a tie, to even";
}

TEST_F(CopyOuterTensorsTest, TensorsThatAreMissingOrOfAnotherShapeAreNamed) {
  testing::AlteredSource missing(model_.checkpoint);
  missing.Remove("model.norm.weight");
  EXPECT_THAT(Error(missing), HasSubstr("tensor \"model.norm.weight\" is missing"));
  testing::AlteredSource reshaped(model_.checkpoint);
  reshaped.Put({"model.norm.weight", DType::kF32, {1}, std::vector<std::byte>(4)});
  EXPECT_THAT(Error(reshaped), HasSubstr("tensor \"model.norm.weight\": shape is [1]; expected"));
}

TEST_F(CopyOuterTensorsTest, StopsWhenTheReceiverFails) {
  int calls = 0;
  const absl::Status status =
      CopyOuterTensors(model_.checkpoint, model_.config,
                       [&](const TensorShape&, int64_t, absl::Span<const std::byte>) {
                         ++calls;
                         return absl::UnavailableError("gone");
                       });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(calls, 1);
}

// More than one range, and F32 that is rounded: 300 rows of 4096 are 2.4 MB of F16.
TEST_F(CopyOuterTensorsTest, LargeTensorsComeInRanges) {
  ModelConfig config = model_.config;
  config.vocab_size = 600;
  config.hidden_size = 4096;
  testing::AlteredSource source(model_.checkpoint);
  std::mt19937_64 random(2);
  const NamedTensor embeddings =
      testing::RandomTensor({"model.embed_tokens.weight", {600, 4096}}, DType::kF32, random);
  source.Put(embeddings);
  source.Put(testing::RandomTensor({"model.norm.weight", {4096}}, DType::kF16, random));
  source.Put(testing::RandomTensor({"lm_head.weight", {600, 4096}}, DType::kF16, random));
  std::map<std::string, std::vector<std::byte>> received;
  int ranges = 0;
  const absl::Status status = CopyOuterTensors(
      source, config,
      [&](const TensorShape& tensor, int64_t offset, absl::Span<const std::byte> bytes) {
        std::vector<std::byte>& data = received[tensor.name];
        EXPECT_EQ(static_cast<int64_t>(data.size()), offset);
        EXPECT_LE(bytes.size(), size_t{4} << 20);
        data.insert(data.end(), bytes.begin(), bytes.end());
        ++ranges;
        return absl::OkStatus();
      });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_GT(ranges, 5);
  const std::vector<std::byte>& half = received["model.embed_tokens.weight"];
  ASSERT_EQ(half.size(), embeddings.data.size() / 2);
  for (int64_t i = 0; i < 600 * 4096; ++i) {
    float value;
    uint16_t bits;
    std::memcpy(&value, embeddings.data.data() + 4 * i, 4);
    std::memcpy(&bits, half.data() + 2 * i, 2);
    ASSERT_EQ(F16ToF32(bits), RoundToF16(value)) << i;
  }
}

}  // namespace
}  // namespace salient
