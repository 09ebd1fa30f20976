#include "core/safetensors/token_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Row = std::vector<int64_t>;

template <class T>
NamedTensor Tensor(const std::string& name, DType dtype, std::vector<int64_t> shape,
                   const std::vector<T>& values) {
  NamedTensor tensor{name, dtype, std::move(shape), {}};
  tensor.data.resize(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(tensor.data.data(), values.data(), tensor.data.size());
  return tensor;
}

NamedTensor Ids(std::vector<int64_t> shape, const std::vector<int32_t>& values) {
  return Tensor("input_ids", DType::kI32, std::move(shape), values);
}

NamedTensor Lengths(std::vector<int64_t> shape, const std::vector<int64_t>& values) {
  return Tensor("lengths", DType::kI64, std::move(shape), values);
}

NamedTensor Mask(std::vector<int64_t> shape, const std::vector<int64_t>& values) {
  return Tensor("attention_mask", DType::kI64, std::move(shape), values);
}

absl::StatusOr<std::vector<Row>> Read(const std::vector<NamedTensor>& tensors, int64_t max_rows = 0,
                                      TokenUse use = TokenUse::kScore) {
  const auto file = SerializeSafetensors(ToWrite(tensors), {});
  EXPECT_TRUE(file.ok()) << file.status();
  return ReadTokenRows("dir/tokens.safetensors", *file, max_rows, use);
}

template <class T>
NamedTensor TwoRows(DType dtype) {
  return Tensor<T>("input_ids", dtype, {2, 2}, {1, 2, 3, 100});
}

TEST(TokenRowsTest, ReadsIntegersOfAnyWidthAndTheFirstRows) {
  const std::vector<NamedTensor> narrow = {Ids({3, 2}, {1, 2, 3, 4, 5, 0})};
  EXPECT_THAT(*Read(narrow), ElementsAre(Row{1, 2}, Row{3, 4}, Row{5, 0}));
  EXPECT_THAT(*Read(narrow, 2), ElementsAre(Row{1, 2}, Row{3, 4}));
  EXPECT_THAT(*Read(narrow, 9), ElementsAre(Row{1, 2}, Row{3, 4}, Row{5, 0}));
  const int64_t large = int64_t{1} << 40;
  EXPECT_THAT(*Read({Tensor<int64_t>("input_ids", DType::kI64, {1, 3}, {7, large, 0})}),
              ElementsAre(Row{7, large, 0}));
  for (const NamedTensor& ids : {TwoRows<uint8_t>(DType::kU8), TwoRows<int8_t>(DType::kI8),
                                 TwoRows<uint16_t>(DType::kU16), TwoRows<int16_t>(DType::kI16),
                                 TwoRows<uint32_t>(DType::kU32), TwoRows<uint64_t>(DType::kU64)}) {
    EXPECT_THAT(*Read({ids}), ElementsAre(Row{1, 2}, Row{3, 100})) << Name(ids.dtype);
  }
  EXPECT_THAT(*Read({Tensor<uint16_t>("input_ids", DType::kU16, {1, 1}, {65535})}),
              ElementsAre(Row{65535}));
}

// Tokenizers write this beside ids that are padded to one length.
TEST(TokenRowsTest, AMaskCutsPaddingOffOnBothSides) {
  const NamedTensor ids = Ids({4, 4}, {1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 7, 8, 0, 9, 0, 0});
  const std::vector<int64_t> mask = {1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0};
  const auto rows = ElementsAre(Row{1, 2, 3, 4}, Row{5, 6}, Row{7, 8}, Row{9});
  EXPECT_THAT(*Read({ids, Mask({4, 4}, mask)}), rows);
  const std::vector<uint8_t> truth(mask.begin(), mask.end());
  EXPECT_THAT(*Read({ids, Tensor("attention_mask", DType::kBool, {4, 4}, truth)}), rows);
  EXPECT_THAT(*Read({Ids({2, 2}, {1, 2, 3, 4}), Mask({2, 2}, {1, 1, 1, 0}), Lengths({2}, {2, 1})}),
              ElementsAre(Row{1, 2}, Row{3}));
  // Rows that are not read are not judged.
  EXPECT_THAT(*Read({Ids({2, 2}, {1, 2, 3, 4}), Mask({2, 2}, {1, 1, 0, 0})}, 1),
              ElementsAre(Row{1, 2}));
}

TEST(TokenRowsTest, LeavesOutWhatChangesNothing) {
  const auto row = ElementsAre(Row{5, 6});
  const NamedTensor ids = Ids({1, 3}, {0, 5, 6});
  const NamedTensor mask = Mask({1, 3}, {0, 1, 1});
  const auto beside = [&](const char* name, const std::vector<int64_t>& values) {
    return std::vector<NamedTensor>{ids, mask, Tensor(name, DType::kI64, {1, 3}, values)};
  };
  EXPECT_THAT(*Read(beside("position_ids", {1, 0, 1})), row);
  EXPECT_THAT(*Read(beside("position_ids", {0, 1, 2})), row);  // Positions are relative.
  EXPECT_THAT(*Read(beside("token_type_ids", {3, 0, 0})), row);
  EXPECT_THAT(*Read(beside("special_tokens_mask", {1, 1, 0})), row);
  EXPECT_THAT(*Read(beside("labels", {-100, 5, 6})), row);
  EXPECT_THAT(*Read(beside("labels", {-100, -100, 6}), 0, TokenUse::kRun), row);
}

// What follows a row's length is padding, whatever it holds.
TEST(TokenRowsTest, LengthsCutPaddingOff) {
  EXPECT_THAT(*Read({Ids({3, 3}, {1, 2, 3, 4, -1, -1, 5, 6, -100}), Lengths({3}, {3, 1, 2})}),
              ElementsAre(Row{1, 2, 3}, Row{4}, Row{5, 6}));
  EXPECT_THAT(
      *Read({Ids({2, 2}, {1, 2, 3, 4}), Tensor<int32_t>("lengths", DType::kI32, {2}, {1, 2})}),
      ElementsAre(Row{1}, Row{3, 4}));
}

TEST(TokenRowsTest, FaultsNameTensorValueAndExpectation) {
  const struct {
    std::vector<NamedTensor> tensors;
    const char* error;
  } cases[] = {
      {{Lengths({1}, {1})}, "tensor \"input_ids\": is missing; expected integers, [rows, tokens]"},
      {{Tensor<float>("input_ids", DType::kF32, {1, 1}, {1})},
       "tensor \"input_ids\": dtype is F32; expected integers, such as I32 or I64"},
      {{Ids({2}, {1, 2})}, "tensor \"input_ids\": shape is [2]; expected [rows, tokens]"},
      {{Ids({1, 2, 1}, {1, 2})}, "shape is [1, 2, 1]"},
      {{Ids({0, 2}, {})}, "shape is [0, 2]; expected [rows, tokens], each at least 1"},
      {{Ids({2, 0}, {})}, "shape is [2, 0]"},
      {{Ids({2, 2}, {1, 2, 3, -4})},
       "tensor \"input_ids\": element [1, 1] is -4; expected a token"},
      {{Ids({1, 2}, {1, 2}), Lengths({2}, {1, 1})},
       "tensor \"lengths\": shape is [2]; expected [1], the rows of input_ids"},
      {{Ids({1, 2}, {1, 2}), Lengths({1}, {3})},
       "tensor \"lengths\": element [0] is 3; expected 1 to 2"},
      {{Ids({1, 2}, {1, 2}), Lengths({1}, {0})}, "element [0] is 0; expected 1 to 2"},
      {{Ids({1, 2}, {1, 2}), Lengths({1}, {-1})}, "element [0] is -1"},
      {{Ids({1, 2}, {1, 2}), Tensor<float>("lengths", DType::kF32, {1}, {1})},
       "tensor \"lengths\": dtype is F32"},
      {{Ids({1, 3}, {1, 2, 3}), Mask({1, 3}, {1, 0, 1})},
       "tensor \"attention_mask\": element [0, 2] is 1; expected 0, as position 1 has"},
      {{Ids({2, 2}, {1, 2, 3, 4}), Mask({2, 2}, {1, 1, 0, 0})},
       "tensor \"attention_mask\": row 1 is all 0; expected a token in every row"},
      {{Ids({1, 2}, {1, 2}), Mask({1, 2}, {1, 2})},
       "tensor \"attention_mask\": element [0, 1] is 2; expected 0 for padding or 1"},
      {{Ids({1, 2}, {1, 2}), Mask({2, 1}, {1, 1})},
       "tensor \"attention_mask\": shape is [2, 1]; expected [1, 2], as input_ids has"},
      {{Ids({1, 2}, {1, 2}), Tensor<float>("attention_mask", DType::kF32, {1, 2}, {1, 1})},
       "tensor \"attention_mask\": dtype is F32"},
      {{Ids({1, 2}, {1, 2}), Mask({1, 2}, {0, 1}), Lengths({1}, {1})},
       "tensor \"attention_mask\": row 0 has tokens 1 to 1; expected the first 1, as lengths"},
      {{Ids({1, 2}, {1, 2}), Tensor<int64_t>("labels", DType::kI64, {1, 2}, {1, -100})},
       "tensor \"labels\": element [0, 1] is -100; expected 2, the token"},
      {{Ids({1, 2}, {1, 2}), Tensor<int64_t>("token_type_ids", DType::kI64, {1, 2}, {0, 1})},
       "tensor \"token_type_ids\": element [0, 1] is 1; expected 0"},
      {{Ids({1, 3}, {1, 2, 3}), Tensor<int64_t>("position_ids", DType::kI64, {1, 3}, {0, 1, 0})},
       "tensor \"position_ids\": element [0, 2] is 0; expected 2: a row is one sequence"},
      {{Ids({1, 2}, {1, 2}), Tensor<float>("logits", DType::kF32, {1}, {1})},
       "tensor \"logits\": is unknown; expected input_ids, attention_mask and lengths alone"},
      {{Tensor<int64_t>("lengths", DType::kI64, {1}, {1}), Ids({}, {1})}, "shape is []"},
  };
  for (const auto& bad : cases) {
    const absl::Status status = Read(bad.tensors).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.error));
    EXPECT_THAT(std::string(status.message()), HasSubstr("dir/tokens.safetensors: "));
  }
  EXPECT_EQ(Read({Ids({1, 1}, {1})}, -1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadTokenRows("x", {}, 0, TokenUse::kRun).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace salient
