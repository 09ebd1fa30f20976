#include "core/tensor/half.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace salient {
namespace {

// IEEE 754 binary16 and bfloat16 from their definition: sign, exponent bits, mantissa bits.
double Decode(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = static_cast<int>(bits) & ((1 << mantissa_bits) - 1);
  const double sign = bits >> (exponent_bits + mantissa_bits) ? -1.0 : 1.0;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

// Rounds to the nearest multiple of the step at |value|, ties to even, by the FPU's own
// rounding of an f64 to an integer.
double RoundToGrid(double value, int mantissa_bits, int min_exponent) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int exponent = std::max(std::ilogb(value), min_exponent);
  const double step = std::ldexp(1.0, exponent - mantissa_bits);
  return std::nearbyint(value / step) * step;
}

double RoundToF16Grid(float value) {
  const double rounded = RoundToGrid(value, 10, -14);
  return std::abs(rounded) >= 65536 ? std::copysign(HUGE_VAL, rounded) : rounded;
}

double RoundToBF16Grid(float value) {
  const double rounded = RoundToGrid(value, 7, -126);
  return std::abs(rounded) >= 0x1p128 ? std::copysign(HUGE_VAL, rounded) : rounded;
}

TEST(HalfTest, EveryF16PatternWidensToItsValueAndBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double expected = Decode(bits, 5, 10);
    const float actual = F16ToF32(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(actual)) << bits;
      EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(actual)))) << bits;
      continue;
    }
    ASSERT_EQ(actual, expected) << bits;
    ASSERT_EQ(std::signbit(actual), std::signbit(expected)) << bits;
    ASSERT_EQ(F32ToF16(actual), bits);
  }
}

TEST(HalfTest, EveryBF16PatternWidensToItsValueAndBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double expected = Decode(bits, 8, 7);
    const float actual = BF16ToF32(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(actual)) << bits;
      EXPECT_TRUE(std::isnan(BF16ToF32(F32ToBF16(actual)))) << bits;
      continue;
    }
    ASSERT_EQ(actual, expected) << bits;
    ASSERT_EQ(F32ToBF16(actual), bits);
  }
}

void ExpectBothRound(float value) {
  ASSERT_EQ(F16ToF32(F32ToF16(value)), RoundToF16Grid(value)) << std::hexfloat << value;
  ASSERT_EQ(BF16ToF32(F32ToBF16(value)), RoundToBF16Grid(value)) << std::hexfloat << value;
  ASSERT_EQ(std::signbit(F16ToF32(F32ToF16(value))), std::signbit(value));
}

TEST(HalfTest, RandomFloatsRoundToNearest) {
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isnan(value)) ExpectBothRound(value);
  }
  // Most patterns above overflow or vanish in F16: some where it has values, down to
  // less than its smallest subnormal.
  std::uniform_int_distribution<int> exponent(-27, 17);
  std::uniform_real_distribution<float> mantissa(-2.0f, 2.0f);
  for (int i = 0; i < 1'000'000; ++i)
    ExpectBothRound(std::ldexp(mantissa(random), exponent(random)));
}

// Takes the middle between two neighbours, and the floats next to it, for all neighbours.
TEST(HalfTest, EveryTieGoesToTheEvenNeighbour) {
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = F16ToF32(static_cast<uint16_t>(bits));
    const float high = F16ToF32(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;  // It is exact: one more bit than F16 has.
    ASSERT_EQ(F32ToF16(middle), bits + (bits & 1)) << bits;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 1e9f)), bits + 1);
    ASSERT_EQ(F32ToF16(-middle), 0x8000 | (bits + (bits & 1)));
  }
  for (uint32_t bits = 0; bits < 0x7F7F; ++bits) {
    const float middle = std::bit_cast<float>(bits << 16 | 0x8000);
    ASSERT_EQ(F32ToBF16(middle), bits + (bits & 1)) << bits;
  }
}

TEST(HalfTest, F16OverflowsToInfinityFromTheTieUpwards) {
  EXPECT_EQ(F32ToF16(65504.0f), 0x7BFF);
  EXPECT_EQ(F32ToF16(std::nextafter(65520.0f, 0.0f)), 0x7BFF);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7C00);
  EXPECT_EQ(F32ToF16(-1e30f), 0xFC00);
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::infinity()), 0x7C00);
}

TEST(HalfTest, WidensArraysAtAnyAlignment) {
  const std::vector<float> values = {1.5f, -0.25f, 0.0f, 1024.0f};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<std::byte> bytes(1 + values.size() * SizeOf(dtype));
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t half = dtype == DType::kF16 ? F32ToF16(values[i]) : F32ToBF16(values[i]);
      const void* element = dtype == DType::kF32 ? static_cast<const void*>(&values[i])
                                                 : static_cast<const void*>(&half);
      std::memcpy(bytes.data() + 1 + i * SizeOf(dtype), element, SizeOf(dtype));
    }
    std::vector<float> wide(values.size());
    WidenToF32(dtype, bytes.data() + 1, static_cast<int64_t>(values.size()), wide.data());
    EXPECT_EQ(wide, values) << Name(dtype);
  }
}

}  // namespace
}  // namespace salient
