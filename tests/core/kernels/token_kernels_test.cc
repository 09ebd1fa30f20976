// Every kernel over tiles of tokens against a plain loop.
#include "core/kernels/token_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/kernels/transpose_kernels.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

// Odd lengths reach the vector body and the tail.
constexpr int64_t kTokenLengths[] = {1, 7, 8, 31, 40, 75, 259};

std::vector<uint16_t> RandomBits(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::vector<uint16_t> bits(static_cast<size_t>(count));
  for (uint16_t& value : bits) value = static_cast<uint16_t>(random());
  return bits;
}

std::vector<uint16_t> RandomBf16(uint64_t seed, int64_t count) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.1f, 3.0f);
  std::vector<uint16_t> bits(static_cast<size_t>(count));
  for (uint16_t& value : bits) value = F32ToBF16(normal(random));
  return bits;
}

TEST(TokenKernelsTest, Transpose16MovesEveryElementAndNothingElse) {
  for (const int64_t tokens : kTokenLengths) {
    for (const int64_t columns : kTokenLengths) {
      const int64_t stride = columns + 3;
      const int64_t ld = tokens + 5;
      const std::vector<uint16_t> x = RandomBits(1, tokens * stride);
      std::vector<uint16_t> out(static_cast<size_t>(columns * ld), 77);
      Transpose16(x.data(), tokens, columns, stride, out.data(), ld);
      for (int64_t c = 0; c < columns; ++c) {
        for (int64_t t = 0; t < ld; ++t) {
          ASSERT_EQ(out[c * ld + t], t < tokens ? x[t * stride + c] : 77)
              << tokens << " x " << columns << " at " << t << ", " << c;
        }
      }
    }
  }
}

TEST(TokenKernelsTest, SumBf16IsTheSumsOfWidenedValues) {
  for (const int64_t n : kTokenLengths) {
    const std::vector<uint16_t> x = RandomBf16(2, n);
    double sum = 0;
    double sum_abs = 0;
    float max_abs = 0;
    for (const uint16_t bits : x) {
      const float value = BF16ToF32(bits);
      sum += value;
      sum_abs += std::fabs(value);
      max_abs = std::max(max_abs, std::fabs(value));
    }
    const ChannelSums sums = SumBf16(x.data(), n);
    EXPECT_NEAR(sums.sum, sum, 1e-12 * sum_abs) << n;
    EXPECT_NEAR(sums.sum_abs, sum_abs, 1e-12 * sum_abs) << n;
    EXPECT_EQ(sums.max_abs, max_abs) << n;
  }
}

TEST(TokenKernelsTest, AddColumnSumsAddsTokensInOrder) {
  for (const int64_t columns : kTokenLengths) {
    constexpr int64_t kTokens = 21;
    const int64_t stride = columns + 1;
    const std::vector<uint16_t> bits = RandomBf16(3, kTokens * stride);
    std::vector<float> x(bits.size());
    for (size_t i = 0; i < x.size(); ++i) x[i] = BF16ToF32(bits[i]) * 1.1f;
    const auto size = static_cast<size_t>(columns);
    std::vector<double> sum(size, 0.5), sum_abs(size, 0.25);
    std::vector<float> max_abs(size, 4.0f);
    AddColumnSums(x.data(), kTokens, columns, stride, sum.data(), sum_abs.data(), max_abs.data());
    for (int64_t c = 0; c < columns; ++c) {
      double expected = 0.5;
      double expected_abs = 0.25;
      float expected_max = 4.0f;
      for (int64_t t = 0; t < kTokens; ++t) {
        const float value = x[t * stride + c];
        expected += value;
        expected_abs += std::fabs(value);
        expected_max = std::max(expected_max, std::fabs(value));
      }
      EXPECT_EQ(sum[c], expected) << c;
      EXPECT_EQ(sum_abs[c], expected_abs) << c;
      EXPECT_EQ(max_abs[c], expected_max) << c;
    }
  }
}

TEST(TokenKernelsTest, OneBadValueAnywhereIsSeen) {
  constexpr float kInfiniteValue = std::numeric_limits<float>::infinity();
  for (const int64_t n : kTokenLengths) {
    const std::vector<uint16_t> good = RandomBf16(4, n);
    EXPECT_TRUE(AllFinite16(good.data(), n, 0x7F80));
    for (int64_t at = 0; at < n; ++at) {
      for (const float value : {kInfiniteValue, -kInfiniteValue, std::nanf("")}) {
        std::vector<uint16_t> bf16 = good;
        bf16[at] = F32ToBF16(value);
        EXPECT_FALSE(AllFinite16(bf16.data(), n, 0x7F80)) << at << " of " << n;
        EXPECT_FALSE(std::isfinite(SumBf16(bf16.data(), n).max_abs)) << at << " of " << n;
        std::vector<uint16_t> f16(static_cast<size_t>(n), F32ToF16(-65504.0f));
        EXPECT_TRUE(AllFinite16(f16.data(), n, 0x7C00));
        f16[at] = F32ToF16(value);
        EXPECT_FALSE(AllFinite16(f16.data(), n, 0x7C00)) << at << " of " << n;
        std::vector<float> f32(static_cast<size_t>(n), std::numeric_limits<float>::max());
        EXPECT_TRUE(AllFinite32(f32.data(), n));
        f32[at] = value;
        EXPECT_FALSE(AllFinite32(f32.data(), n)) << at << " of " << n;
        std::vector<double> sums(static_cast<size_t>(n));
        std::vector<float> max_abs(static_cast<size_t>(n));
        AddColumnSums(f32.data(), 1, n, n, sums.data(), sums.data(), max_abs.data());
        EXPECT_FALSE(std::isfinite(max_abs[at])) << at << " of " << n;
      }
    }
  }
}

TEST(TokenKernelsTest, AddBinnedRowsAddsTheWordOfEverySummandInItsFrame) {
  std::mt19937_64 random(6);
  std::normal_distribution<float> normal;
  constexpr int kCount = 3;
  for (const bool upper : {false, true}) {
    for (const int64_t columns : kTokenLengths) {
      const int64_t rows = upper ? columns : 21;
      const int64_t ld = columns + 3;
      const int64_t total_ld = columns + 1;
      // The exponents are of so many kinds that scales cannot be kept for all.
      std::vector<int32_t> row_exponents(static_cast<size_t>(rows));
      std::vector<int32_t> column_exponents(static_cast<size_t>(columns));
      for (int32_t& e : row_exponents) e = static_cast<int32_t>(random() % 241) - 120;
      for (int32_t& e : column_exponents) e = static_cast<int32_t>(random() % 241) - 120;
      std::vector<double> bounds;
      for (const int32_t e : column_exponents) bounds.push_back(ColumnFrameBound(e));
      std::vector<float> partial(static_cast<size_t>(rows * ld));
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          const int doubled = row_exponents[i] + column_exponents[j];
          partial[i * ld + j] = std::ldexp(normal(random) / 8, doubled / 2);
        }
      }
      std::vector<int64_t> total(static_cast<size_t>(rows * total_ld), -5), expected = total;
      AddBinnedRows(
          {partial.data(), rows, columns, ld, row_exponents.data(), bounds.data(), kCount, upper},
          total.data(), total_ld);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          int64_t& word = expected[i * total_ld + j];
          if (upper && j < i) {
            word = total[i * total_ld + j];  // It does not matter.
            continue;
          }
          const int frame = FrameOf(row_exponents[i] + column_exponents[j], kCount);
          const double p = partial[i * ld + j];
          const double digit = std::nearbyint(std::ldexp(p, -23 * (frame - 1)));
          const double rest = std::nearbyint(
              std::ldexp(p - std::ldexp(digit, 23 * (frame - 1)), -23 * (frame - 2)));
          word += static_cast<int64_t>(digit) * (int64_t{1} << 40) + static_cast<int64_t>(rest);
        }
      }
      EXPECT_EQ(total, expected) << columns << (upper ? ", upper triangle" : "");
    }
  }
}

TEST(TokenKernelsTest, AddBinnedSumsAddsTheWordOfEverySumInItsFrame) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  constexpr int kCount = 5;
  for (const int64_t columns : kTokenLengths) {
    std::vector<double> bounds, sums;
    std::vector<int64_t> expected;
    for (int64_t j = 0; j < columns; ++j) {
      const int exponent = static_cast<int>(random() % 241) - 120;
      bounds.push_back(ColumnFrameBound(2 * exponent));
      sums.push_back(std::ldexp(normal(random) / 8, exponent));
      expected.push_back(AddWords(-5, WordOf(sums.back(), FrameOf(2 * exponent, kCount))));
    }
    std::vector<int64_t> total(sums.size(), -5);
    AddBinnedSums(sums.data(), bounds.data(), columns, kCount, total.data());
    EXPECT_EQ(total, expected) << columns;
  }
}

TEST(TokenKernelsTest, SignsFromBitsAreOnesOfThatSign) {
  for (const int64_t n : kTokenLengths) {
    const std::vector<uint16_t> words = RandomBits(5, n);
    std::vector<uint16_t> out(words.size());
    for (int bit = 0; bit < 16; ++bit) {
      int64_t expected = 0;
      const int64_t negative = SignsFromBits(words.data(), n, bit, out.data());
      for (size_t t = 0; t < out.size(); ++t) {
        const bool set = (words[t] >> bit & 1) == 1;
        expected += set ? 1 : 0;
        EXPECT_EQ(BF16ToF32(out[t]), set ? -1.0f : 1.0f) << t << " of " << n << ", bit " << bit;
      }
      EXPECT_EQ(negative, expected);
    }
  }
}

}  // namespace
}  // namespace salient
