// Holds what calibration leaves behind: sums over tokens, per group of Linears that read the same
// input. Everything here adds, so rows may come in any order and on any machine.
#ifndef SALIENT_CORE_STATISTICS_STATISTICS_H_
#define SALIENT_CORE_STATISTICS_STATISTICS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/statistics/row_set.h"

namespace salient {

// Widest input whose whole Gram can be kept: 8 GiB of it.
inline constexpr int64_t kMostWholeGram = 1 << 15;

// Says what is kept. Parts merge only when all of this is equal.
struct StatisticsParams {
  int64_t in_features = 0;
  int64_t block_width = 256;        // A diagonal block of X^T X that is exact has so many columns.
  int64_t sketch_rows = 256;        // It is r, the rows of the random sketch off the diagonal.
  int64_t exact_gram_limit = 1024;  // Up to this many in_features the whole Gram is kept.
  int64_t sample_tokens = 256;      // So many token vectors are kept as they are.
  uint64_t seed = 0;                // The sketch and the sample begin with it.

  // Keeps the whole Gram, whatever the width.
  void KeepWholeGram() { exact_gram_limit = std::max(exact_gram_limit, in_features); }
  bool ExactGram() const { return in_features <= exact_gram_limit; }
  int64_t Blocks() const { return (in_features + block_width - 1) / block_width; }
  bool operator==(const StatisticsParams&) const = default;
};

// INVALID_ARGUMENT naming `name`, the param and its range if one is out of it.
absl::Status CheckStatisticsParams(absl::string_view name, const StatisticsParams& params);

// The tokens whose hash of (seed, calibration row, position) is smallest: a uniform sample
// that does not depend on order and merges. Sorted by (hash, row, position), ascending.
struct TokenSample {
  struct Key {
    uint64_t hash = 0;
    int64_t row = 0;
    int64_t position = 0;
    auto operator<=>(const Key&) const = default;  // NOLINT(modernize-use-nullptr): a false alarm
  };
  std::vector<Key> keys;
  std::vector<float> values;  // They are [keys.size(), in_features].
};

// I = in_features, w = block_width, r = sketch_rows. Sums over tokens are words of binned_sums.h
// whose summands are calibration rows; SumValues reads them.
struct Statistics {
  StatisticsParams params;
  RowSet rows;              // These calibration rows were counted.
  int64_t token_count = 0;  // It is n.

  // Each is the largest BoundExponent of any row [I]: of its sum |x_j|, and of max |x_j| sum |x_j|,
  // which bounds its sum of squares.
  std::vector<int32_t> sum_exponents;
  std::vector<int32_t> square_exponents;

  std::vector<int64_t> sum;      // [I]: each is sum x_j.
  std::vector<int64_t> sum_abs;  // [I]: each is sum |x_j|.
  std::vector<float> max_abs;    // [I]: each is max |x_j|.

  // Exactly one of {gram} and {blocks, sketch} is kept, by params.ExactGram().
  std::vector<int64_t> gram;  // It is X^T X [I, I], both triangles.
  // Block b [w, w] of Blocks() covers columns [b w, min(I, (b + 1) w)); unused rows and columns of
  // the last are 0.
  std::vector<int64_t> blocks;
  // It is R X [r, I] with R of +-1 entries, not yet divided by anything.
  std::vector<int64_t> sketch;
  std::vector<double> sketch_row_sums;  // It is R 1 [r], which centring needs: whole numbers.

  TokenSample sample;
};

// Statistics of no rows: all sums there and 0. `params` must be in range.
Statistics EmptyStatistics(const StatisticsParams& params);

// Adds `part` into `total`. FAILED_PRECONDITION naming `name` if a calibration row stands in
// both (adding them would give a wrong loss without a sign); INVALID_ARGUMENT if their
// params differ; OUT_OF_RANGE if they have more than kMostSummands rows. On error `total` is
// unchanged.
absl::Status MergeStatistics(absl::string_view name, const Statistics& part, Statistics& total);

// Returns FAILED_PRECONDITION naming `name` if a calibration row stands in both sets.
absl::Status CheckDisjoint(absl::string_view name, const RowSet& part, const RowSet& total);

// Returns OUT_OF_RANGE naming `name` if so many rows do not fit into the sums.
absl::Status CheckRowCount(absl::string_view name, int64_t rows);

}  // namespace salient

#endif  // SALIENT_CORE_STATISTICS_STATISTICS_H_
