// Knows which bytes of something have arrived.
#ifndef SALIENT_CORE_FILE_BYTE_COVERAGE_H_
#define SALIENT_CORE_FILE_BYTE_COVERAGE_H_

#include <cstdint>
#include <iterator>
#include <map>

namespace salient {

// Disjoint ranges [begin, end), merged where they touch.
class ByteCoverage {
 public:
  // Adds a range. Returns false, and changes nothing, if a byte of it was there already.
  bool Add(int64_t begin, int64_t end) {
    if (begin == end) return true;
    const auto next = ranges_.lower_bound(begin);
    if (next != ranges_.end() && next->first < end) return false;
    const auto previous = next == ranges_.begin() ? ranges_.end() : std::prev(next);
    if (previous != ranges_.end() && previous->second > begin) return false;
    if (next != ranges_.end() && next->first == end) {
      end = next->second;
      ranges_.erase(next);
    }
    if (previous != ranges_.end() && previous->second == begin) {
      previous->second = end;
    } else {
      ranges_[begin] = end;
    }
    return true;
  }

  int64_t Bytes() const {
    int64_t bytes = 0;
    for (const auto& [begin, end] : ranges_) bytes += end - begin;
    return bytes;
  }

 private:
  std::map<int64_t, int64_t> ranges_;  // They map each begin to its end.
};

}  // namespace salient

#endif  // SALIENT_CORE_FILE_BYTE_COVERAGE_H_
