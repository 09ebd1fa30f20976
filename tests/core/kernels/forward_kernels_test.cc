// Every kernel of the forward pass against a plain loop, exponentials against f64.
#include "core/kernels/forward_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/tensor/half.h"

namespace salient {
namespace {

// Odd lengths reach the vector body and the tail.
constexpr int64_t kForwardLengths[] = {1, 7, 16, 33, 259};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> Gaussian(uint64_t seed, int64_t n, float deviation = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

// Expects `bits` to be `values`, rounded one by one.
void ExpectRounded(const std::vector<float>& values, const std::vector<uint16_t>& bits) {
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(bits[i], F32ToBF16(values[i])) << i;
}

TEST(ForwardKernelsTest, RoundToBf16AgreesWithTheScalarConversion) {
  // All upper halves, with lower halves below, at and above a tie, and odd ones.
  for (const uint32_t low : {0x0000u, 0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
    std::vector<float> values;
    for (uint32_t high = 0; high < 1 << 16; ++high) {
      const uint32_t bits = high << 16 | low;
      float value;
      static_assert(sizeof(value) == sizeof(bits));
      std::memcpy(&value, &bits, sizeof(value));
      values.push_back(value);
    }
    std::vector<uint16_t> rounded(values.size());
    RoundToBf16(values.data(), static_cast<int64_t>(values.size()), rounded.data());
    ExpectRounded(values, rounded);
  }
}

TEST(ForwardKernelsTest, WidenBf16UndoesIt) {
  std::vector<uint16_t> bits;
  for (uint32_t i = 0; i < 1 << 16; ++i) bits.push_back(static_cast<uint16_t>(i));
  bits.push_back(0x3F80);  // and a tail
  std::vector<float> wide(bits.size());
  WidenBf16(bits.data(), static_cast<int64_t>(bits.size()), wide.data());
  for (size_t i = 0; i < bits.size(); ++i) {
    const float expected = BF16ToF32(bits[i]);
    EXPECT_EQ(0, std::memcmp(&wide[i], &expected, sizeof(float))) << i;
  }
}

TEST(ForwardKernelsTest, AddToAdds) {
  for (const int64_t n : kForwardLengths) {
    const std::vector<float> change = Gaussian(1, n);
    const std::vector<float> before = Gaussian(2, n);
    std::vector<float> sum = before;
    AddTo(change.data(), n, sum.data());
    for (size_t i = 0; i < sum.size(); ++i) EXPECT_EQ(sum[i], before[i] + change[i]);
  }
}

TEST(ForwardKernelsTest, NormalizeRowDividesByTheRootMeanSquare) {
  for (const int64_t n : kForwardLengths) {
    const std::vector<float> x = Gaussian(3, n, 10);
    const std::vector<float> weight = Gaussian(4, n);
    const size_t size = x.size();
    double squares = 0;
    for (float value : x) squares += static_cast<double>(value) * value;
    const double root = std::sqrt(squares / static_cast<double>(n) + 1e-5);
    std::vector<float> normed(size);
    NormalizeRow(x.data(), weight.data(), n, 1e-5, normed.data());
    for (size_t i = 0; i < size; ++i) {
      const double expected = x[i] / root * weight[i];
      EXPECT_NEAR(normed[i], expected, 2e-7 * std::abs(expected)) << n << " " << i;
    }
    std::vector<uint16_t> bits(size);
    NormalizeRow(x.data(), weight.data(), n, 1e-5, bits.data());
    ExpectRounded(normed, bits);
  }
}

TEST(ForwardKernelsTest, RotateHeadsTurnsPairsOfChannels) {
  for (const int64_t half : kForwardLengths) {
    const std::vector<float> angles = Gaussian(5, half);
    std::vector<float> cosines, sines;
    for (float angle : angles) {
      cosines.push_back(std::cos(angle));
      sines.push_back(std::sin(angle));
    }
    const std::vector<float> before = Gaussian(6, 3 * 2 * half);
    std::vector<float> values = before;
    RotateHeads(cosines.data(), sines.data(), half, 3, values.data());
    for (size_t head = 0; head < 3; ++head) {
      for (size_t i = 0; i < angles.size(); ++i) {
        const size_t first = 2 * head * angles.size() + i;
        const size_t second = first + angles.size();
        const double a = before[first], b = before[second], c = cosines[i], s = sines[i];
        EXPECT_NEAR(values[first], a * c - b * s, 5e-7);
        EXPECT_NEAR(values[second], b * c + a * s, 5e-7);
      }
    }
  }
}

TEST(ForwardKernelsTest, ExponentialsAreAsGoodAsPromised) {
  std::vector<float> x;
  for (int i = -87 * 512; i <= 88 * 512; ++i) x.push_back(static_cast<float>(i) / 512.0f);
  std::mt19937_64 random(7);
  std::uniform_real_distribution<float> uniform(-87, 88);
  for (int i = 0; i < 200000; ++i) x.push_back(uniform(random));
  for (int i = 0; i < 100; ++i) x.push_back(std::ldexp(i % 2 == 0 ? 1.0f : -1.0f, -i));
  std::vector<float> out(x.size());
  Exponentials(x.data(), static_cast<int64_t>(x.size()), out.data());
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    largest = std::max(largest, std::abs(out[i] / expected - 1));
  }
  EXPECT_LT(largest, 0x1p-22);
}

TEST(ForwardKernelsTest, ExponentialsHaveEndsAndShowNaN) {
  const std::vector<float> x = {-kInfinity, -1000, -87.01f, kNaN, 88.01f, 1000, kInfinity};
  for (const size_t copies : {size_t{1}, size_t{5}}) {  // in the tail and in the body
    std::vector<float> all;
    for (size_t i = 0; i < copies; ++i) all.insert(all.end(), x.begin(), x.end());
    std::vector<float> out(all.size());
    Exponentials(all.data(), static_cast<int64_t>(all.size()), out.data());
    for (size_t i = 0; i < all.size(); ++i) {
      if (std::isnan(all[i])) {
        EXPECT_TRUE(std::isnan(out[i]));
      } else {
        const double expected = all[i] < 0 ? 0 : std::exp(88.0);
        EXPECT_NEAR(out[i], expected, 0x1p-22 * expected) << all[i];
      }
    }
  }
}

TEST(ForwardKernelsTest, SiluProductIsAsGoodAsPromised) {
  std::vector<float> gate;
  for (int i = -86 * 64; i <= 200 * 64; ++i) gate.push_back(static_cast<float>(i) / 64.0f);
  const std::vector<float> up = Gaussian(8, static_cast<int64_t>(gate.size()));
  std::vector<float> out(gate.size());
  SiluProduct(gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double g = gate[i];
    const double expected = g / (1 + std::exp(-g)) * up[i];
    EXPECT_NEAR(out[i], expected, 0x1p-21 * std::abs(expected)) << g;
  }
  std::vector<uint16_t> bits(gate.size());
  SiluProduct(gate.data(), up.data(), static_cast<int64_t>(gate.size()), bits.data());
  ExpectRounded(out, bits);
}

TEST(ForwardKernelsTest, SiluProductHasEndsAndShowsNaN) {
  const std::vector<float> gate = {-1e4f, -100, 1e4f, kNaN, kInfinity, 1, -1e30f};
  const std::vector<float> up = {1, 1, 1, 1, 1, kNaN, 8};
  std::vector<float> out(gate.size());
  SiluProduct(gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
  for (const size_t i : {0, 1, 6}) EXPECT_NEAR(out[i], 0, 0x1p-126 * std::abs(gate[i] * up[i]));
  EXPECT_EQ(out[2], 1e4f);
  EXPECT_TRUE(std::isnan(out[3]));
  EXPECT_EQ(out[4], kInfinity);
  EXPECT_TRUE(std::isnan(out[5]));
}

// In one part and in several; the last scores of a part may be masked.
TEST(ForwardKernelsTest, SoftmaxPartsMakeASoftmax) {
  for (const int64_t part : {64, 128, 320}) {
    std::vector<float> scores = Gaussian(9, 320, 30);
    for (size_t i = 300; i < scores.size(); ++i) scores[i] = -kInfinity;
    const float factor = 0.125f;
    double sum = 0;
    for (float score : scores) sum += std::exp(static_cast<double>(score) * factor);
    std::vector<float> weights = scores;
    SoftmaxState state{-kInfinity, 0};
    for (int64_t first = 0; first < 320; first += part) {
      const int64_t count = std::min<int64_t>(part, 320 - first);
      const float kept = SoftmaxPart(weights.data() + first, count, factor, state);
      if (first == 0) {
        EXPECT_EQ(kept, 0);
      }
      for (int64_t i = 0; i < first; ++i) weights[static_cast<size_t>(i)] *= kept;
    }
    EXPECT_EQ(state.largest, *std::max_element(scores.begin(), scores.end()));
    for (size_t i = 0; i < scores.size(); ++i) {
      const double expected = std::exp(static_cast<double>(scores[i]) * factor) / sum;
      // The argument of the exponential is rounded too, at 2^-24 of scores of up to 100.
      EXPECT_NEAR(weights[i] / state.sum, expected, 4e-6 * expected) << part << " " << i;
    }
  }
}

TEST(ForwardKernelsTest, SoftmaxPartShowsNaN) {
  for (const size_t at : {size_t{0}, size_t{17}, size_t{63}}) {
    std::vector<float> scores = Gaussian(10, 64);
    scores[at] = kNaN;
    SoftmaxState state{-kInfinity, 0};
    SoftmaxPart(scores.data(), 64, 1, state);
    EXPECT_TRUE(std::isnan(state.sum)) << at;
  }
}

TEST(ForwardKernelsTest, ScaleMultiplies) {
  for (const int64_t n : kForwardLengths) {
    const std::vector<float> values = Gaussian(11, n);
    std::vector<float> out(values.size());
    Scale(values.data(), 0.3f, n, out.data());
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], values[i] * 0.3f);
    std::vector<uint16_t> bits(values.size());
    Scale(values.data(), 0.3f, n, bits.data());
    ExpectRounded(out, bits);
  }
}

}  // namespace
}  // namespace salient
