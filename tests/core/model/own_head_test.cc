#include "core/model/own_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"
#include "tests/core/model/small_model.h"
#include "tests/support/altered_source.h"

namespace salient {
namespace {

using testing::AlteredSource;
using testing::Must;

// The model's embeddings are large enough for a sample to be less than all.
class OwnHeadTest : public ::testing::Test {
 protected:
  OwnHeadTest()
      : model_(testing::TestsDirectory() + "golden/forward/plain"), source_(model_.checkpoint) {
    model_.config.vocab_size = 40000;
    source_.Put(Tensor("model.embed_tokens.weight", DType::kBF16));
  }

  // Returns multiples of 1/64 that every float dtype holds.
  NamedTensor Tensor(const std::string& name, DType dtype) const {
    NamedTensor tensor{name, dtype, {40000, 32}, {}};
    const int64_t count = 40000 * 32;
    tensor.data.resize(static_cast<size_t>(count * SizeOf(dtype)));
    for (int64_t i = 0; i < count; ++i) Set(tensor, i, static_cast<float>(i % 127 - 63) / 64);
    return tensor;
  }
  static void Set(NamedTensor& tensor, int64_t element, float value) {
    const uint16_t half = tensor.dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    const void* bytes = tensor.dtype == DType::kF32 ? static_cast<const void*>(&value) : &half;
    const auto size = static_cast<size_t>(SizeOf(tensor.dtype));
    std::memcpy(tensor.data.data() + static_cast<size_t>(element) * size, bytes, size);
  }
  bool HasOwn(HeadComparison comparison) const {
    return Must(HasOwnHead(source_, model_.plan, comparison));
  }

  testing::SmallModel model_;
  AlteredSource source_;
};

TEST_F(OwnHeadTest, WithoutAHeadThereIsNone) {
  EXPECT_FALSE(HasOwn(HeadComparison::kSample));
  EXPECT_FALSE(HasOwn(HeadComparison::kWhole));
}

TEST_F(OwnHeadTest, ACopyInAnyDTypeIsNone) {
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    source_.Put(Tensor("lm_head.weight", dtype));
    EXPECT_TRUE(StoresTiedHead(source_, model_.plan));
    EXPECT_FALSE(HasOwn(HeadComparison::kSample));
    EXPECT_FALSE(HasOwn(HeadComparison::kWhole));
  }
}

TEST_F(OwnHeadTest, OneValueMakesItOneWhereverItIs) {
  for (const int64_t element : {int64_t{0}, int64_t{700001}, int64_t{40000} * 32 - 1}) {
    NamedTensor head = Tensor("lm_head.weight", DType::kF32);
    Set(head, element, 3);
    source_.Put(head);
    EXPECT_TRUE(HasOwn(HeadComparison::kWhole)) << element;
  }
}

// An id that no token has may have anything for its row.
TEST_F(OwnHeadTest, ANotANumberIsACopyOfItself) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  NamedTensor embeddings = Tensor("model.embed_tokens.weight", DType::kF32);
  Set(embeddings, 39999 * 32, nan);
  source_.Put(embeddings);
  NamedTensor head = Tensor("lm_head.weight", DType::kF32);
  source_.Put(head);
  EXPECT_TRUE(HasOwn(HeadComparison::kWhole));
  Set(head, 39999 * 32, nan);
  source_.Put(head);
  EXPECT_FALSE(HasOwn(HeadComparison::kWhole));
}

TEST_F(OwnHeadTest, ASampleFindsAHeadThatDiffersEverywhere) {
  NamedTensor head = Tensor("lm_head.weight", DType::kBF16);
  for (int64_t row = 20000; row < 40000; ++row) Set(head, row * 32 + 5, 3);
  source_.Put(head);
  EXPECT_TRUE(HasOwn(HeadComparison::kSample));
}

TEST_F(OwnHeadTest, AConfigThatDoesNotTieHasNothingToSettle) {
  NamedTensor head = Tensor("lm_head.weight", DType::kF32);
  Set(head, 0, 3);
  source_.Put(head);
  model_.config.tie_word_embeddings = false;
  EXPECT_FALSE(HasOwn(HeadComparison::kWhole));
  EXPECT_EQ(model_.plan.HeadName(), "lm_head.weight");
}

TEST_F(OwnHeadTest, OneOfAnotherShapeIsAnErrorByName) {
  source_.Put({"lm_head.weight", DType::kF32, {2, 32}, std::vector<std::byte>(256)});
  const auto own = HasOwnHead(source_, model_.plan, HeadComparison::kSample);
  EXPECT_EQ(own.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(own.status().message()),
              ::testing::HasSubstr("lm_head.weight\": shape is [2, 32]; expected [40000, 32]"));
}

TEST_F(OwnHeadTest, AHeadOfItsOwnIsAmongTheTensors) {
  EXPECT_EQ(OuterTensors(model_.plan).size(), 2u);
  model_.config.own_head = true;
  EXPECT_EQ(OuterTensors(model_.plan).size(), 3u);
  EXPECT_EQ(model_.plan.HeadName(), "lm_head.weight");
}

}  // namespace
}  // namespace salient
