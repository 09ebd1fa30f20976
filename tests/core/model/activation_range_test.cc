#include "core/model/activation_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <random>

namespace salient {
namespace {

TEST(ActivationRangeTest, TheLargestMagnitudeIsThatOfEitherSign) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0, 3);
  Matrix values(7, 33);
  float largest = 0;
  for (int64_t i = 0; i < 7 * 33; ++i) {
    values.data()[i] = normal(random);
    largest = std::max(largest, std::abs(values.data()[i]));
  }
  EXPECT_EQ(LargestMagnitude(values), largest);
  values.Row(6)[32] = -1e30f;
  EXPECT_EQ(LargestMagnitude(values), 1e30f);
  EXPECT_EQ(LargestMagnitude(Matrix(2, 2)), 0);
  for (const float odd : {INFINITY, -INFINITY, std::nanf("")}) {
    values.Row(0)[1] = odd;
    EXPECT_EQ(LargestMagnitude(values), FLT_MAX);
  }
}

TEST(ActivationRangeTest, KeepsTheFirstOfTheLargest) {
  ActivationRange range;
  EXPECT_TRUE(range.Add({2, "here"}));
  EXPECT_FALSE(range.Add({2, "there"}));
  EXPECT_FALSE(range.Add({1, "there"}));
  EXPECT_EQ(range.where, "here");
  EXPECT_TRUE(range.Add({128675, "the residual stream leaving model.layers.3"}));
  EXPECT_EQ(range.Describe(),
            "activations reach 128675 in the residual stream leaving model.layers.3, and F16 holds "
            "65504 at most");
}

TEST(ActivationRangeTest, NearsF16AtHalfOfWhatItHolds) {
  EXPECT_FALSE((ActivationRange{32752, ""}).NearsF16());
  EXPECT_TRUE((ActivationRange{32768, ""}).NearsF16());
  EXPECT_FALSE((ActivationRange{65504, ""}).PassesF16());
  EXPECT_TRUE((ActivationRange{65536, ""}).PassesF16());
  EXPECT_TRUE((ActivationRange{INFINITY, ""}).PassesF16());
}

}  // namespace
}  // namespace salient
