// The set of calibration rows that a statistic counts, as half-open intervals.
#ifndef SALIENT_CORE_STATISTICS_ROW_SET_H_
#define SALIENT_CORE_STATISTICS_ROW_SET_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace salient {

class RowSet {
 public:
  // Rows [begin, end). Sorted, disjoint and not touching.
  struct Interval {
    int64_t begin = 0;
    int64_t end = 0;
    bool operator==(const Interval&) const = default;
  };

  RowSet() = default;
  // From intervals that are sorted, disjoint and not touching, each begin < end.
  explicit RowSet(std::vector<Interval> intervals) : intervals_(std::move(intervals)) {}

  bool Contains(int64_t row) const;

  // Adds one row. Returns false, and changes nothing, if it is there already.
  bool Insert(int64_t row);

  // The smallest row in both sets, if any.
  std::optional<int64_t> FirstCommon(const RowSet& other) const;

  // Adds all rows of `other`; the sets must be disjoint.
  void InsertAll(const RowSet& other);

  int64_t size() const;
  const std::vector<Interval>& intervals() const { return intervals_; }
  bool operator==(const RowSet&) const = default;

 private:
  std::vector<Interval> intervals_;
};

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_ROW_SET_H_
