#include "core/checkpoint/f64_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient {
namespace {

template <class T>
NamedTensor TensorOf(const std::string& name, DType dtype, const std::vector<T>& values) {
  NamedTensor tensor{name, dtype, {static_cast<int64_t>(values.size())}, {}};
  tensor.data.resize(values.size() * sizeof(T));
  std::memcpy(tensor.data.data(), values.data(), tensor.data.size());
  return tensor;
}

TEST(F64AsF32SourceTest, ShowsElementsRoundedAtAnyRange) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "f64_source_test");
  std::filesystem::create_directory(directory);
  const std::vector<double> wide = {1.0 / 3, -2.5, 1e300, 0};
  const std::vector<NamedTensor> tensors = {TensorOf("wide", DType::kF64, wide),
                                            TensorOf<float>("plain", DType::kF32, {7, 8})};
  ASSERT_TRUE(WriteSafetensors(directory + "/model.safetensors", ToWrite(tensors), {}).ok());
  auto checkpoint = Checkpoint::Open(directory);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const F64AsF32Source source(std::make_unique<Checkpoint>(*std::move(checkpoint)));

  const auto found = source.Find("wide");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->entry->dtype, DType::kF32);
  EXPECT_EQ(found->entry->SizeBytes(), 16);
  EXPECT_EQ(source.Find("wide")->entry, found->entry);
  const float expected[] = {static_cast<float>(1.0 / 3), -2.5f, INFINITY, 0};
  const auto* bytes = reinterpret_cast<const std::byte*>(expected);
  for (int64_t begin = 0; begin <= 16; ++begin) {
    for (int64_t end = begin; end <= 16; ++end) {
      std::vector<std::byte> range(static_cast<size_t>(end - begin));
      ASSERT_TRUE(source.ReadRange("wide", begin, absl::MakeSpan(range)).ok());
      EXPECT_EQ(range, std::vector<std::byte>(bytes + begin, bytes + end)) << begin << " " << end;
    }
  }
  std::vector<std::byte> beyond(1);
  EXPECT_EQ(source.ReadRange("wide", 16, absl::MakeSpan(beyond)).code(),
            absl::StatusCode::kOutOfRange);

  EXPECT_EQ(source.Find("plain")->entry->dtype, DType::kF32);
  std::vector<float> plain(2);
  ASSERT_TRUE(
      source.ReadRange("plain", 0, absl::MakeSpan(reinterpret_cast<std::byte*>(plain.data()), 8))
          .ok());
  EXPECT_EQ(plain, (std::vector<float>{7, 8}));
  EXPECT_EQ(source.Find("none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace salient
