#include "core/statistics/row_set.h"

#include <algorithm>
#include <iterator>

namespace salient {
namespace {

// The first interval that ends after `row`: the only one that may contain it.
std::vector<RowSet::Interval>::const_iterator FirstEndingAfter(
    const std::vector<RowSet::Interval>& intervals, int64_t row) {
  return std::upper_bound(
      intervals.begin(), intervals.end(), row,
      [](int64_t value, const RowSet::Interval& interval) { return value < interval.end; });
}

}  // namespace

bool RowSet::Contains(int64_t row) const {
  const auto interval = FirstEndingAfter(intervals_, row);
  return interval != intervals_.end() && interval->begin <= row;
}

bool RowSet::Insert(int64_t row) {
  const auto found = FirstEndingAfter(intervals_, row);
  if (found != intervals_.end() && found->begin <= row) return false;
  // Intervals never touch: a row that closes a gap joins two into one.
  const auto next = intervals_.begin() + (found - intervals_.cbegin());
  const bool touches_next = next != intervals_.end() && next->begin == row + 1;
  const bool touches_previous = next != intervals_.begin() && (next - 1)->end == row;
  if (touches_previous && touches_next) {
    (next - 1)->end = next->end;
    intervals_.erase(next);
  } else if (touches_previous) {
    (next - 1)->end = row + 1;
  } else if (touches_next) {
    next->begin = row;
  } else {
    intervals_.insert(next, {row, row + 1});
  }
  return true;
}

std::optional<int64_t> RowSet::FirstCommon(const RowSet& other) const {
  auto a = intervals_.begin();
  auto b = other.intervals_.begin();
  while (a != intervals_.end() && b != other.intervals_.end()) {
    const int64_t begin = std::max(a->begin, b->begin);
    if (begin < std::min(a->end, b->end)) return begin;
    // The interval that ends first can meet nothing further on.
    if (a->end <= b->end) {
      ++a;
    } else {
      ++b;
    }
  }
  return std::nullopt;
}

void RowSet::InsertAll(const RowSet& other) {
  std::vector<Interval> all;
  all.reserve(intervals_.size() + other.intervals_.size());
  std::merge(intervals_.begin(), intervals_.end(), other.intervals_.begin(), other.intervals_.end(),
             std::back_inserter(all),
             [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  // The sets are disjoint, so merged intervals touch at most and never overlap.
  intervals_.clear();
  for (const Interval& interval : all) {
    if (!intervals_.empty() && intervals_.back().end == interval.begin) {
      intervals_.back().end = interval.end;
    } else {
      intervals_.push_back(interval);
    }
  }
}

int64_t RowSet::size() const {
  int64_t size = 0;
  for (const Interval& interval : intervals_) size += interval.end - interval.begin;
  return size;
}

}  // namespace salient
