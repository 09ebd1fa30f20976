#include "core/statistics/sketch_signs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "core/tensor/half.h"

namespace salient {
namespace {

std::vector<float> Signs(uint64_t seed, int64_t row, int64_t position, size_t count) {
  std::vector<float> signs(count);
  FillSketchSigns(seed, row, position, absl::MakeSpan(signs));
  return signs;
}

// Words computed by an independent program from the definition; they may never change, since
// statistics made by different versions are added.
TEST(SketchSignsTest, DrawsAreThoseOfEveryOtherVersion) {
  struct Draw {
    uint64_t seed;
    int64_t row, position;
    uint64_t first_word, second_word, sample_hash;
  };
  const Draw draws[] = {
      {0, 0, 0, 0x4e33729f6789b0c4, 0x76499e363ee84e79, 0xb482bb73daf4f288},
      {7, 123456789, 4095, 0x49ce14e547e607d4, 0xa0801606c9a52024, 0xef9b7a0f618c7ca3},
      {UINT64_MAX, int64_t{1} << 62, 1, 0x33b161b25ed706bb, 0x19433722a1ca0459,
       0xec03b377de1a3f45}};
  for (const Draw& draw : draws) {
    const std::vector<float> signs = Signs(draw.seed, draw.row, draw.position, 100);
    for (size_t i = 0; i < signs.size(); ++i) {
      const uint64_t word = i < 64 ? draw.first_word : draw.second_word;
      EXPECT_EQ(signs[i], (word >> (i % 64) & 1) == 1 ? -1.0f : 1.0f) << i;
    }
    EXPECT_EQ(SampleHash(draw.seed, draw.row, draw.position), draw.sample_hash);
  }
}

TEST(SketchSignsTest, FirstRowsDoNotDependOnHowManyThereAre) {
  const std::vector<float> many = Signs(1, 2, 3, 1000);
  for (const size_t count : {1, 63, 64, 65, 999}) {
    const std::vector<float> few = Signs(1, 2, 3, count);
    EXPECT_TRUE(std::equal(few.begin(), few.end(), many.begin())) << count;
  }
}

// Property: a tile is the signs of its tokens, side by side, and then zeros.
TEST(SketchSignsTest, TilesAreTheSignsOfTheirTokens) {
  for (const int64_t rows : {1, 16, 100, 256}) {
    for (const int64_t tokens : {1, 31, 64, 130}) {
      const int64_t depth = (tokens + 63) / 64 * 64;
      std::vector<float> wide(static_cast<size_t>(rows * depth), 7);
      std::vector<uint16_t> narrow(wide.size(), 7);
      std::vector<double> sums(static_cast<size_t>(rows), 0.0), expected_sums = sums;
      FillSketchTile(3, 4, 5, tokens, depth, true, wide.data(), absl::MakeSpan(sums));
      FillSketchTile(3, 4, 5, tokens, depth, false, narrow.data(), absl::MakeSpan(sums));
      for (int64_t t = 0; t < depth; ++t) {
        const std::vector<float> signs = Signs(3, 4, 5 + t, static_cast<size_t>(rows));
        for (int64_t k = 0; k < rows; ++k) {
          const float expected = t < tokens ? signs[k] : 0.0f;
          ASSERT_EQ(wide[k * depth + t], expected) << k << ", " << t;
          ASSERT_EQ(BF16ToF32(narrow[k * depth + t]), expected) << k << ", " << t;
          expected_sums[k] += 2 * expected;  // of both tiles
        }
      }
      EXPECT_EQ(sums, expected_sums);
    }
  }
}

// Means and correlations of n fair signs are within 5 standard deviations, 5 / sqrt(n).
TEST(SketchSignsTest, AreFairAndIndependent) {
  constexpr int64_t kRows = 8;
  constexpr int64_t kPositions = 512;
  constexpr size_t kSketch = 256;
  constexpr double n = kRows * kPositions;
  std::vector<double> mean(kSketch);
  std::vector<double> neighbours(kSketch);  // sketch rows k and k + 1 (mod 256)
  std::vector<double> words(kSketch);       // sketch rows k and k + 64: same bit, other word
  std::vector<double> next_token(kSketch);  // positions p and p + 1
  std::vector<double> next_row(kSketch);    // calibration rows i and i + 1
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t position = 0; position < kPositions; ++position) {
      const std::vector<float> signs = Signs(0, row, position, kSketch);
      const std::vector<float> right = Signs(0, row, position + 1, kSketch);
      const std::vector<float> below = Signs(0, row + 1, position, kSketch);
      for (size_t k = 0; k < kSketch; ++k) {
        mean[k] += signs[k];
        neighbours[k] += signs[k] * signs[(k + 1) % kSketch];
        words[k] += signs[k] * signs[(k + 64) % kSketch];
        next_token[k] += signs[k] * right[k];
        next_row[k] += signs[k] * below[k];
      }
    }
  }
  for (const auto* sums : {&mean, &neighbours, &words, &next_token, &next_row}) {
    double chi_square = 0;
    for (const double sum : *sums) {
      EXPECT_LT(std::abs(sum), 5 * std::sqrt(n));
      chi_square += sum * sum / n;
    }
    // Mean 256, standard deviation sqrt(2 * 256) = 22.6.
    EXPECT_NEAR(chi_square, 256, 5 * 22.6);
  }
}

TEST(SketchSignsTest, EveryPartOfTheKeyMatters) {
  std::set<uint64_t> hashes;
  for (const uint64_t seed : {0, 1, 2}) {
    for (int64_t row = 0; row < 100; ++row) {
      for (int64_t position = 0; position < 100; ++position) {
        hashes.insert(SampleHash(seed, row, position));
      }
    }
  }
  EXPECT_EQ(hashes.size(), 30000u);
  EXPECT_NE(Signs(0, 1, 0, 64), Signs(0, 0, 1, 64));
  EXPECT_NE(Signs(0, 1, 0, 64), Signs(1, 1, 0, 64));
}

}  // namespace
}  // namespace salient
