#include "core/safetensors/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/safetensors/safetensors.h"
#include "core/tensor/named_tensor.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

std::vector<NamedTensor> Tensors() {
  std::vector<NamedTensor> tensors = {{"b.qweight", DType::kI32, {2, 3}, {}},
                                      {"a.scales", DType::kF16, {3}, {}},
                                      {"nothing", DType::kF32, {0, 3}, {}},
                                      {"\xC3\xA9\"", DType::kF64, {}, {}},
                                      {"flag", DType::kBool, {5}, {}}};
  uint8_t next = 0;
  for (NamedTensor& tensor : tensors) {
    int64_t bytes = SizeOf(tensor.dtype);
    for (const int64_t dimension : tensor.shape) bytes *= dimension;
    for (int64_t i = 0; i < bytes; ++i) tensor.data.push_back(static_cast<std::byte>(++next));
  }
  return tensors;
}

std::vector<TensorShape> Shapes(const std::vector<NamedTensor>& tensors) {
  std::vector<TensorShape> shapes;
  for (const NamedTensor& tensor : tensors) {
    shapes.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  return shapes;
}

// Writing each tensor to its place gives the file that knows all bytes beforehand (which is held
// against the reference writer elsewhere).
TEST(SafetensorsLayoutTest, BytesPutInTheirPlacesGiveTheSerializedFile) {
  const std::vector<NamedTensor> tensors = Tensors();
  const auto layout = LayOutSafetensors("x", Shapes(tensors), {{"made", "here"}});
  ASSERT_TRUE(layout.ok()) << layout.status();
  std::vector<std::byte> file(static_cast<size_t>(layout->file_bytes), std::byte{0xEE});
  std::transform(layout->head.begin(), layout->head.end(), file.begin(),
                 [](char c) { return static_cast<std::byte>(c); });
  for (const SafetensorsLayout::Place& place : layout->places) {
    const auto tensor = std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& t) {
      return t.name == place.tensor.name;
    });
    ASSERT_NE(tensor, tensors.end());
    EXPECT_EQ(place.tensor.SizeBytes(), static_cast<int64_t>(tensor->data.size()));
    EXPECT_EQ(place.end - place.begin, static_cast<int64_t>(tensor->data.size()));
    std::copy(tensor->data.begin(), tensor->data.end(), file.begin() + place.begin);
  }
  const auto serialized = SerializeSafetensors(ToWrite(tensors), {{"made", "here"}});
  ASSERT_TRUE(serialized.ok()) << serialized.status();
  EXPECT_EQ(file, *serialized);
}

TEST(SafetensorsLayoutTest, PlacesAreWhereTheReaderLooks) {
  const auto layout = LayOutSafetensors("x", Shapes(Tensors()), {});
  ASSERT_TRUE(layout.ok()) << layout.status();
  const std::string json = layout->head.substr(8);
  const auto data_begin = static_cast<int64_t>(layout->head.size());
  EXPECT_EQ(data_begin % 8, 0);
  const auto header = ParseSafetensorsHeader("x", json, layout->file_bytes - data_begin);
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_EQ(header->tensors().size(), layout->places.size());
  for (size_t i = 0; i < layout->places.size(); ++i) {
    const TensorEntry& entry = header->tensors()[i];
    EXPECT_EQ(entry.name, layout->places[i].tensor.name);
    EXPECT_EQ(entry.shape, layout->places[i].tensor.shape);
    EXPECT_EQ(data_begin + entry.begin, layout->places[i].begin);
    EXPECT_EQ(data_begin + entry.end, layout->places[i].end);
  }
}

TEST(SafetensorsLayoutTest, WhatCannotBeReadIsRefusedByName) {
  constexpr int64_t kHuge = int64_t{1} << 62;
  const struct {
    std::vector<TensorShape> tensors;
    const char* error;
  } cases[] = {
      {{{"w", DType::kU8, {-1}}}, "tensor \"w\": shape[0] is -1"},
      {{{"w", DType::kF16, {1}}, {"w", DType::kF32, {1}}}, "tensor \"w\": stands twice"},
      {{{"", DType::kU8, {1}}}, "empty name"},
      {{{"w", DType::kF32, {kHuge, 4}}}, "tensor \"w\""},
      {{{"w", DType::kU8, {kHuge, 2}}}, "tensor \"w\""},
      {{{"v", DType::kU8, {kHuge}}, {"w", DType::kU8, {kHuge}}}, "tensor \"w\" ends beyond"},
  };
  for (const auto& bad : cases) {
    const absl::Status status = LayOutSafetensors("dir/x", bad.tensors, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.error;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.error));
    EXPECT_THAT(std::string(status.message()), HasSubstr("dir/x: "));
  }
}

}  // namespace
}  // namespace salient
