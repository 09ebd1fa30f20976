#include "core/result/plain_dtypes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/model/small_model.h"
#include "tests/support/altered_source.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr char kHead[] = "lm_head.weight";
constexpr char kNorm[] = "model.layers.1.input_layernorm.weight";
constexpr char kValue[] = "model.layers.0.self_attn.v_proj.weight";

// The model is in F32, but for a few tensors of another dtype.
class PlainDTypesTest : public ::testing::Test {
 protected:
  PlainDTypes Of(const std::vector<std::pair<std::string, DType>>& changed) {
    testing::AlteredSource source(model_.checkpoint);
    std::vector<std::pair<std::string, DType>> dtypes;
    for (const std::string& name : model_.checkpoint.TensorNames()) {
      dtypes.emplace_back(name, DType::kF32);
    }
    dtypes.insert(dtypes.end(), changed.begin(), changed.end());
    for (const auto& [name, dtype] : dtypes) {
      const std::vector<int64_t> shape = model_.checkpoint.Find(name)->entry->shape;
      int64_t bytes = SizeOf(dtype);
      for (const int64_t dimension : shape) bytes *= dimension;
      source.Put({name, dtype, shape, std::vector<std::byte>(static_cast<size_t>(bytes))});
    }
    return PlainDTypesOf(source, model_.plan);
  }

  testing::SmallModel model_{testing::TestsDirectory() + "golden/forward/untied_head"};
};

TEST_F(PlainDTypesTest, WhatCameInF32IsWrittenInF16) {
  model_.config.dtype = std::nullopt;
  const PlainDTypes dtypes = Of({});
  EXPECT_TRUE(dtypes.came_in_f32);
  EXPECT_EQ(dtypes.config, DType::kF16);
  EXPECT_EQ(dtypes.Of(kHead), DType::kF16);
  EXPECT_THAT(dtypes.others, IsEmpty());
}

TEST_F(PlainDTypesTest, WhatConfigJsonSaysOfF32IsKept) {
  model_.config.dtype = DType::kBF16;
  const PlainDTypes dtypes = Of({});
  EXPECT_TRUE(dtypes.came_in_f32);
  EXPECT_EQ(dtypes.config, DType::kBF16);
  EXPECT_EQ(dtypes.Of(kHead), DType::kF16) << "it has more bits for the same numbers";
}

TEST_F(PlainDTypesTest, OneTensorInBF16MakesTheModelThat) {
  model_.config.dtype = DType::kF16;
  const PlainDTypes dtypes = Of({{kNorm, DType::kBF16}, {kHead, DType::kF16}});
  EXPECT_FALSE(dtypes.came_in_f32);
  EXPECT_EQ(dtypes.config, DType::kBF16);
  EXPECT_EQ(dtypes.Of(kNorm), DType::kBF16);
  EXPECT_EQ(dtypes.Of(kValue), DType::kBF16) << "it came in F32";
  EXPECT_EQ(dtypes.Of(kHead), DType::kF16);
  EXPECT_THAT(dtypes.others, ElementsAre(Pair(kHead, DType::kF16)));
}

TEST_F(PlainDTypesTest, AModelInF16IsF16UnlessItsConfigSaysBfloat16) {
  model_.config.dtype = DType::kF32;
  const std::vector<std::pair<std::string, DType>> half = {{kNorm, DType::kF16}};
  EXPECT_EQ(Of(half).config, DType::kF16);
  EXPECT_FALSE(Of(half).came_in_f32);
  model_.config.dtype = DType::kBF16;
  EXPECT_EQ(Of(half).config, DType::kBF16);
  EXPECT_EQ(Of(half).Of(kNorm), DType::kF16);
}

}  // namespace
}  // namespace salient
