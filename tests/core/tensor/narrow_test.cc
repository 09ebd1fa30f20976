#include "core/tensor/narrow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/tensor/non_finite.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

// Bit patterns are by IEEE 754: 1, -2, the largest, what still rounds to it, subnormals, and a tie.
TEST(NarrowTest, RoundsToNearestEven) {
  const std::vector<float> values = {1.0f,         -2.0f,  65504.0f,        -65519.99f,
                                     0x1p-24f,     -0.0f,  0x1.002p0f,      0x1.006p0f,
                                     0x1.7fcp-15f, 1e-30f, 0x1.ff9fffp+14f, 0.0f};
  const std::vector<uint16_t> expected = {0x3C00, 0xC000, 0x7BFF, 0xFBFF, 0x0001, 0x8000,
                                          0x3C00, 0x3C02, 0x0300, 0x0000, 0x77FE, 0x0000};
  std::vector<std::byte> out(2 * values.size());
  ASSERT_TRUE(Narrow(DType::kF16, "w", values.data(), 3, 4, 0, out.data()).ok());
  std::vector<uint16_t> bits(values.size());
  std::memcpy(bits.data(), out.data(), out.size());
  EXPECT_EQ(bits, expected);
}

TEST(NarrowTest, WhatF16CannotHoldIsNamed) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const auto& [value, text] : {std::pair{65520.0f, "65520"},
                                    {-7e4f, "-70000"},
                                    {kInfinity, "inf"},
                                    {std::nanf(""), "nan"}}) {
    std::vector<float> values(12, 1.0f);
    values[9] = value;
    std::vector<std::byte> out(24);
    const absl::Status status =
        Narrow(DType::kF16, "model.norm.weight", values.data(), 3, 4, 40, out.data());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(IsNonFinite(status));
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("model.norm.weight: element [42, 1] is " + std::string(text) +
                          "; expected a value that F16 can hold, at most 65504 in magnitude"));
  }
}

// Bit patterns are the upper halves of f32's: ties to even, and the last that does not round to
// infinity.
TEST(NarrowTest, RoundsToBF16AndNamesWhatItCannotHold) {
  const std::vector<float> values = {1.0f,      -2.0f, 65536.0f,         0x1.01p0f,
                                     0x1.03p0f, -0.0f, 0x1.fefffep+127f, 0x1p-133f};
  const std::vector<uint16_t> expected = {0x3F80, 0xC000, 0x4780, 0x3F80,
                                          0x3F82, 0x8000, 0x7F7F, 0x0001};
  std::vector<std::byte> out(2 * values.size());
  ASSERT_TRUE(Narrow(DType::kBF16, "w", values.data(), 2, 4, 0, out.data()).ok());
  std::vector<uint16_t> bits(values.size());
  std::memcpy(bits.data(), out.data(), out.size());
  EXPECT_EQ(bits, expected);
  for (const float value : {0x1.ffp+127f, std::nanf("")}) {
    const absl::Status status = Narrow(DType::kBF16, "w", &value, 1, 1, 6, out.data());
    EXPECT_TRUE(IsNonFinite(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("w: element [6, 0] is "));
    EXPECT_THAT(std::string(status.message()), HasSubstr("BF16 can hold, at most 3.3895e+38"));
  }
}

}  // namespace
}  // namespace salient
