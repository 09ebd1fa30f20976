#include "core/statistics/row_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace salient {
namespace {

using ::testing::ElementsAre;
using Interval = RowSet::Interval;

// The intervals of a plain set.
std::vector<Interval> IntervalsOf(const std::set<int64_t>& rows) {
  std::vector<Interval> intervals;
  for (const int64_t row : rows) {
    if (!intervals.empty() && intervals.back().end == row) {
      intervals.back().end = row + 1;
    } else {
      intervals.push_back({row, row + 1});
    }
  }
  return intervals;
}

TEST(RowSetTest, TouchingRowsBecomeOneInterval) {
  RowSet rows;
  EXPECT_TRUE(rows.Insert(5));
  EXPECT_TRUE(rows.Insert(7));
  EXPECT_THAT(rows.intervals(), ElementsAre(Interval{5, 6}, Interval{7, 8}));
  EXPECT_TRUE(rows.Insert(6));
  EXPECT_THAT(rows.intervals(), ElementsAre(Interval{5, 8}));
  EXPECT_FALSE(rows.Insert(6));
  EXPECT_EQ(rows.size(), 3);
}

TEST(RowSetTest, BehavesLikeASet) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    RowSet a;
    RowSet b;
    std::set<int64_t> plain_a;
    std::set<int64_t> plain_b;
    const int count = static_cast<int>(random() % 40);
    for (int i = 0; i < count; ++i) {
      const int64_t row = random() % 60;
      if (random() % 2 == 0) {
        EXPECT_EQ(a.Insert(row), plain_a.insert(row).second);
      } else {
        EXPECT_EQ(b.Insert(row), plain_b.insert(row).second);
      }
    }
    EXPECT_EQ(a.intervals(), IntervalsOf(plain_a));
    EXPECT_EQ(a.size(), static_cast<int64_t>(plain_a.size()));
    for (int64_t row = 0; row < 60; ++row) EXPECT_EQ(a.Contains(row), plain_a.count(row) == 1);

    std::optional<int64_t> common;
    for (const int64_t row : plain_a) {
      if (!common.has_value() && plain_b.count(row) == 1) common = row;
    }
    EXPECT_EQ(a.FirstCommon(b), common);
    EXPECT_EQ(b.FirstCommon(a), common);
    if (!common.has_value()) {
      a.InsertAll(b);
      plain_a.insert(plain_b.begin(), plain_b.end());
      EXPECT_EQ(a.intervals(), IntervalsOf(plain_a));
    }
  }
}

}  // namespace
}  // namespace salient
