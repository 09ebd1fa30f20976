// Checks sums in words, whatever the order and the magnitudes.
#include "core/kernels/binned_sums.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace salient {
namespace {

// This is a sum of some summands, as statistics hold it: with what its frame follows from.
struct Binned {
  int64_t word = 0;
  int exponent = kNoBound;
  int64_t count = 0;

  int Frame() const { return FrameOf(2 * exponent, CountExponent(count)); }
  void Add(const Binned& other) {
    Binned both{0, std::max(exponent, other.exponent), count + other.count};
    both.word = AddWords(RaisedWord(word, both.Frame() - Frame()),
                         RaisedWord(other.word, both.Frame() - other.Frame()));
    *this = both;
  }
};

Binned One(float p) {
  Binned one{0, BoundExponent(std::fabs(p)), 1};
  one.word = WordOf(p, one.Frame());
  return one;
}

TEST(BinnedSumsTest, EveryOrderAndEveryTreeGiveTheSameWord) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  for (const int spread : {0, 3, 30, 60}) {
    for (const size_t count : {1, 2, 5, 64, 700}) {
      std::vector<Binned> summands;
      double sum = 0;
      double largest = 0;
      for (size_t i = 0; i < count; ++i) {
        const int scale = static_cast<int>(random() % (2 * spread + 1)) - spread;
        const float p = i % 7 == 6 ? 0 : std::ldexp(normal(random), scale);
        summands.push_back(One(p));
        sum += p;
        largest = std::max(largest, std::fabs(double{p}));
      }
      Binned expected;
      for (const Binned& one : summands) expected.Add(one);
      const double n = static_cast<double>(count);
      EXPECT_NEAR(ValueOf(expected.word, expected.Frame()), sum, 4 * n * n * largest * 0x1p-23)
          << spread << " " << count;
      for (int round = 0; round < 20; ++round) {
        std::vector<Binned> parts = summands;
        std::shuffle(parts.begin(), parts.end(), random);
        while (parts.size() > 1) {
          const size_t at = random() % (parts.size() - 1);
          parts[at].Add(parts.back());
          parts.pop_back();
        }
        ASSERT_EQ(parts[0].word, expected.word) << spread << " " << count;
        ASSERT_EQ(parts[0].Frame(), expected.Frame());
      }
    }
  }
}

// The sums of both digits fill their fields with the most summands, all of the largest size.
TEST(BinnedSumsTest, TheMostSummandsFit) {
  for (const float p : {1.0f, -1.0f, 0x1.fffffep0f, 0x1.000002p-3f, -0x1.abcdeep5f}) {
    Binned sum = One(p);
    for (int64_t doubled = 2; doubled <= kMostSummands; doubled *= 2) {
      const Binned same = sum;
      sum.Add(same);
    }
    int64_t left = kMostSummands - sum.count;
    for (Binned power = One(p); left > 0; left /= 2) {
      if (left % 2 == 1) sum.Add(power);
      const Binned same = power;
      power.Add(same);
    }
    EXPECT_EQ(sum.count, kMostSummands);
    EXPECT_TRUE(IsSumOf(sum.word, sum.count));
    const double exact = static_cast<double>(p) * static_cast<double>(kMostSummands);
    EXPECT_NEAR(ValueOf(sum.word, sum.Frame()) / exact, 1, 0x1p-6) << p;
  }
}

// Everything may be scaled by a power of two that is a whole digit.
TEST(BinnedSumsTest, WordsDependOnRelativeMagnitudes) {
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal;
  Binned plain, scaled;
  for (int i = 0; i < 100; ++i) {
    const float p = normal(random);
    plain.Add(One(p));
    scaled.Add(One(std::ldexp(p, -46)));
  }
  EXPECT_EQ(plain.word, scaled.word);
  EXPECT_EQ(plain.Frame(), scaled.Frame() + 2);
}

}  // namespace
}  // namespace salient
