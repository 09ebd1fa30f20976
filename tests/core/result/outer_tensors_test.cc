#include "core/result/outer_tensors.h"

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

#include "absl/strings/str_cat.h"
#include "core/tensor/half.h"
#include "core/tensor/named_tensor.h"
#include "core/tensor/non_finite.h"
#include "tests/core/model/small_model.h"
#include "tests/support/altered_source.h"
#include "tests/support/planned_model.h"
#include "tests/support/random_model.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::SmallModel;
using testing::TestsDirectory;

class CopyOuterTensorsTest : public ::testing::Test {
 protected:
  CopyOuterTensorsTest() : model_(TestsDirectory() + "golden/forward/untied_head") {}

  std::string Error(const TensorSource& source) {
    const absl::Status status = CopyOuterTensors(
        source, model_.plan,
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
      CopyOuterTensors(source, model_.plan,
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

// The last rows of the vocabulary, above the tokenizer's ids, hold what no result can hold.
class UnusedRowsTest : public CopyOuterTensorsTest {
 protected:
  static constexpr int64_t kHighestId = 29;

  // Returns a random tensor of the vocabulary's shape with `value` at column 1 of the rows `ids`.
  NamedTensor WithValue(const std::string& name, DType dtype, const std::vector<int64_t>& ids,
                        float value) const {
    std::mt19937_64 random(1);
    const int64_t columns = model_.config.hidden_size;
    NamedTensor tensor =
        testing::RandomTensor({name, {model_.config.vocab_size, columns}}, dtype, random);
    for (const int64_t id : ids) {
      const uint16_t half = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
      const auto size = static_cast<size_t>(SizeOf(dtype));
      const void* bytes = dtype == DType::kF32 ? static_cast<const void*>(&value) : &half;
      std::memcpy(tensor.data.data() + static_cast<size_t>(id * columns + 1) * size, bytes, size);
    }
    return tensor;
  }

  // Copies, and keeps what was told and the bytes of `tensor`.
  absl::Status Copy(const TensorSource& source, const std::string& tensor,
                    absl::StatusOr<int64_t> highest = kHighestId) {
    told_.clear();
    bytes_.clear();
    asked_ = 0;
    return CopyOuterTensors(
        source, model_.plan,
        [&](const TensorShape& shape, int64_t, absl::Span<const std::byte> bytes) {
          if (shape.name == tensor) bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
          return absl::OkStatus();
        },
        {.highest_token_id =
             [&] {
               ++asked_;
               return highest;
             },
         .unused = [&](const UnusedRows& rows) { told_.push_back(rows.Describe()); }});
  }

  // Returns element `column` of row `id` of what was copied.
  uint16_t Bits(int64_t id, int64_t column) const {
    uint16_t bits = 0;
    const int64_t element = id * model_.config.hidden_size + column;
    std::memcpy(&bits, bytes_.data() + 2 * element, 2);
    return bits;
  }

  std::vector<std::string> told_;
  std::vector<std::byte> bytes_;
  int asked_ = 0;
};

constexpr char kOuterEmbeddings[] = "model.embed_tokens.weight";
constexpr char kOuterHead[] = "lm_head.weight";

TEST_F(UnusedRowsTest, KeepTheirBytesIn16Bits) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const float value : {std::nanf(""), INFINITY, -INFINITY}) {
      testing::AlteredSource source(model_.checkpoint);
      NamedTensor embeddings = WithValue(kOuterEmbeddings, dtype, {30, 35}, value);
      // Converting would quieten this NaN.
      embeddings.data[2 * (30 * model_.config.hidden_size + 1)] |= std::byte{0x01};
      source.Put(embeddings);
      ASSERT_TRUE(Copy(source, kOuterEmbeddings).ok());
      EXPECT_EQ(bytes_, embeddings.data);
      EXPECT_THAT(told_, ElementsAre(absl::StrCat(
                             "model.embed_tokens.weight: 2 rows of 30 to 35 are not finite in ",
                             Name(dtype), " and kept so, because no token has an id above 29")));
    }
  }
}

TEST_F(UnusedRowsTest, StayNotFiniteInAnotherDType) {
  testing::AlteredSource source(model_.checkpoint);
  for (const auto& [value, bits] : {std::pair{std::nanf(""), 0x7E00},
                                    {INFINITY, 0x7C00},
                                    {-INFINITY, 0xFC00},
                                    {-7e4f, 0xFC00}}) {
    source.Put(WithValue(kOuterEmbeddings, DType::kF32, {32}, value));
    ASSERT_TRUE(Copy(source, kOuterEmbeddings).ok()) << value;
    EXPECT_EQ(Bits(32, 1), bits) << value;
    const NamedTensor finite = WithValue(kOuterEmbeddings, DType::kF32, {}, 0);
    for (const auto& [id, column] : {std::pair{32, 0}, {32, 2}, {31, 1}, {33, 1}}) {
      float plain = 0;
      const int64_t element = id * model_.config.hidden_size + column;
      std::memcpy(&plain, finite.data.data() + 4 * element, 4);
      EXPECT_EQ(Bits(id, column), F32ToF16(plain));
    }
    EXPECT_THAT(told_, ElementsAre(HasSubstr("row 32 is not finite in F16")));
  }
}

TEST_F(UnusedRowsTest, OfTheHeadAreToldWithWhatEnginesMakeOfThem) {
  testing::AlteredSource source(model_.checkpoint);
  source.Put(WithValue(kOuterHead, DType::kBF16, {30}, std::nanf("")));
  ASSERT_TRUE(Copy(source, kOuterHead).ok());
  EXPECT_THAT(told_, ElementsAre(HasSubstr("Engines make NaN of every probability")));
  // Its logit would be finite in the source alone.
  source.Put(WithValue(kOuterHead, DType::kF32, {30}, 7e4f));
  EXPECT_THAT(std::string(Copy(source, kOuterHead).message()),
              HasSubstr("lm_head.weight: element [30, 1] is 70000; expected a value that F16"));
  // Embeddings that are the head make logits, too.
  source.Put(WithValue(kOuterEmbeddings, DType::kF32, {30}, 7e4f));
  model_.config.tie_word_embeddings = true;
  EXPECT_THAT(std::string(Copy(source, kOuterEmbeddings).message()), HasSubstr("element [30, 1]"));
}

TEST_F(UnusedRowsTest, OthersAreErrors) {
  testing::AlteredSource source(model_.checkpoint);
  source.Put(WithValue(kOuterEmbeddings, DType::kBF16, {kHighestId, 30}, std::nanf("")));
  const absl::Status used = Copy(source, kOuterEmbeddings);
  EXPECT_TRUE(IsNonFinite(used)) << used;
  EXPECT_THAT(std::string(used.message()),
              HasSubstr("altered: model.embed_tokens.weight: element [29, 1] is nan"));
  EXPECT_THAT(told_, IsEmpty());

  source.Put(WithValue(kOuterEmbeddings, DType::kBF16, {35}, std::nanf("")));
  for (const absl::Status& unknown :
       {absl::NotFoundError("no tokenizer"), absl::InvalidArgumentError("tokenizer.json: bad")}) {
    const absl::Status status = Copy(source, kOuterEmbeddings, unknown);
    EXPECT_TRUE(IsNonFinite(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrCat("unless no token has this id: ", unknown.message())));
  }
  EXPECT_EQ(Copy(source, kOuterEmbeddings, absl::CancelledError("")).code(),
            absl::StatusCode::kCancelled);
  EXPECT_THAT(Error(source), HasSubstr("element [35, 1] is nan"));

  // A norm has no rows by id.
  testing::AlteredSource norm(model_.checkpoint);
  const std::vector<std::byte> nans(static_cast<size_t>(4 * model_.config.hidden_size),
                                    std::byte{0xFF});
  norm.Put({"model.norm.weight", DType::kF32, {model_.config.hidden_size}, nans});
  EXPECT_THAT(std::string(Copy(norm, kOuterEmbeddings).message()), HasSubstr("model.norm.weight"));
  EXPECT_EQ(asked_, 0);
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
      CopyOuterTensors(model_.checkpoint, model_.plan,
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
      source, testing::Planned(config),
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
