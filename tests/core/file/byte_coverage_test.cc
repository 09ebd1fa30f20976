#include "core/file/byte_coverage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace salient {
namespace {

// The twin is one flag a byte.
TEST(ByteCoverageTest, CountsEachByteOnceInAnyOrder) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    ByteCoverage coverage;
    std::vector<bool> there(64, false);
    for (int i = 0; i < 60; ++i) {
      const int64_t begin = std::uniform_int_distribution<int64_t>(0, 64)(random);
      const int64_t end = std::min<int64_t>(64, begin + random() % 6);
      bool free = true;
      for (int64_t j = begin; j < end; ++j) free = free && !there[j];
      ASSERT_EQ(coverage.Add(begin, end), free) << begin << " " << end;
      for (int64_t j = begin; free && j < end; ++j) there[j] = true;
      ASSERT_EQ(coverage.Bytes(), std::count(there.begin(), there.end(), true));
    }
  }
}

}  // namespace
}  // namespace salient
