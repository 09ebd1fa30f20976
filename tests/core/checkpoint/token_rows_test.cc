#include "core/checkpoint/token_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"

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

absl::StatusOr<std::vector<Row>> Read(const std::vector<NamedTensor>& tensors,
                                      int64_t max_rows = 0) {
  const auto file = SerializeSafetensors(ToWrite(tensors), {});
  EXPECT_TRUE(file.ok()) << file.status();
  return ReadTokenRows("dir/tokens.safetensors", *file, max_rows);
}

TEST(TokenRowsTest, ReadsBothWidthsAndTheFirstRows) {
  const std::vector<NamedTensor> narrow = {Ids({3, 2}, {1, 2, 3, 4, 5, 0})};
  EXPECT_THAT(*Read(narrow), ElementsAre(Row{1, 2}, Row{3, 4}, Row{5, 0}));
  EXPECT_THAT(*Read(narrow, 2), ElementsAre(Row{1, 2}, Row{3, 4}));
  EXPECT_THAT(*Read(narrow, 9), ElementsAre(Row{1, 2}, Row{3, 4}, Row{5, 0}));
  const int64_t large = int64_t{1} << 40;
  EXPECT_THAT(*Read({Tensor<int64_t>("input_ids", DType::kI64, {1, 3}, {7, large, 0}),
                     Tensor<float>("other", DType::kF32, {1}, {1})}),
              ElementsAre(Row{7, large, 0}));
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
      {{Lengths({1}, {1})}, "tensor \"input_ids\": is missing; expected I32 or I64 [rows, tokens]"},
      {{Tensor<float>("input_ids", DType::kF32, {1, 1}, {1})},
       "tensor \"input_ids\": dtype is F32; expected I32 or I64"},
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
  };
  for (const auto& bad : cases) {
    const absl::Status status = Read(bad.tensors).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.error));
    EXPECT_THAT(std::string(status.message()), HasSubstr("dir/tokens.safetensors: "));
  }
  EXPECT_EQ(Read({Ids({1, 1}, {1})}, -1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadTokenRows("x", {}, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace salient
