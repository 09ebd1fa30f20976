#include "core/statistics/statistics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/kernels/binned_sums.h"
#include "core/statistics/token_sampler.h"

namespace salient {
namespace {

// Returns whether every vector has the size that params ask for.
bool IsWellFormed(const Statistics& statistics) {
  const StatisticsParams& params = statistics.params;
  const size_t in_features = static_cast<size_t>(params.in_features);
  const bool exact = params.ExactGram();
  const auto block_values =
      static_cast<size_t>(params.Blocks() * params.block_width * params.block_width);
  const auto sketch_rows = static_cast<size_t>(params.sketch_rows);
  return statistics.sum_exponents.size() == in_features &&
         statistics.square_exponents.size() == in_features &&
         statistics.sum.size() == in_features && statistics.sum_abs.size() == in_features &&
         statistics.max_abs.size() == in_features &&
         statistics.gram.size() == (exact ? in_features * in_features : 0) &&
         statistics.blocks.size() == (exact ? 0 : block_values) &&
         statistics.sketch.size() == (exact ? 0 : sketch_rows * in_features) &&
         statistics.sketch_row_sums.size() == (exact ? 0 : sketch_rows) &&
         statistics.sample.values.size() == statistics.sample.keys.size() * in_features;
}

// This has the columns' frames before and after the other part was added, and what moves a word of
// the one to the other.
struct Reframing {
  const std::vector<int32_t>& from;
  int from_count;
  const std::vector<int32_t>& to;
  int to_count;

  int64_t operator()(int64_t word, size_t i, size_t j) const {
    return RaisedWord(word,
                      FrameOf(to[i] + to[j], to_count) - FrameOf(from[i] + from[j], from_count));
  }
};

}  // namespace

absl::Status CheckStatisticsParams(absl::string_view name, const StatisticsParams& params) {
  struct Range {
    absl::string_view param;
    int64_t value, low, high, step;
  };
  // The upper ends are far above what models have, and keep sizes computed from them in range.
  const Range ranges[] = {{"in_features", params.in_features, 1, 1 << 20, 1},
                          {"block_width", params.block_width, 8, 1024, 8},
                          {"sketch_rows", params.sketch_rows, 1, 1 << 14, 1},
                          {"exact_gram_limit", params.exact_gram_limit, 0, kMostWholeGram, 1},
                          {"sample_tokens", params.sample_tokens, 0, 1 << 16, 1}};
  for (const Range& range : ranges) {
    if (range.low <= range.value && range.value <= range.high && range.value % range.step == 0) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": statistics ", range.param, " is ", range.value, "; expected ",
                     range.step == 1 ? "" : absl::StrCat("a multiple of ", range.step, " "),
                     "from ", range.low, " to ", range.high));
  }
  return absl::OkStatus();
}

Statistics EmptyStatistics(const StatisticsParams& params) {
  const auto in_features = static_cast<size_t>(params.in_features);
  Statistics empty;
  empty.params = params;
  empty.sum_exponents.resize(in_features, kNoBound);
  empty.square_exponents.resize(in_features, kNoBound);
  empty.sum.resize(in_features);
  empty.sum_abs.resize(in_features);
  empty.max_abs.resize(in_features);
  if (params.ExactGram()) {
    empty.gram.resize(in_features * in_features);
    return empty;
  }
  empty.blocks.resize(
      static_cast<size_t>(params.Blocks() * params.block_width * params.block_width));
  empty.sketch.resize(static_cast<size_t>(params.sketch_rows) * in_features);
  empty.sketch_row_sums.resize(static_cast<size_t>(params.sketch_rows));
  return empty;
}

absl::Status MergeStatistics(absl::string_view name, const Statistics& part, Statistics& total) {
  if (part.params != total.params || !IsWellFormed(part) || !IsWellFormed(total)) {
    const auto describe = [](const StatisticsParams& params) {
      return absl::StrCat("{in_features ", params.in_features, ", block_width ", params.block_width,
                          ", sketch_rows ", params.sketch_rows, ", exact_gram_limit ",
                          params.exact_gram_limit, ", sample_tokens ", params.sample_tokens,
                          ", seed ", params.seed, "}");
    };
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": statistics to add have params ", describe(part.params),
                     "; expected those of the total, ", describe(total.params)));
  }
  if (absl::Status status = CheckDisjoint(name, part.rows, total.rows); !status.ok()) return status;
  const int64_t rows = part.rows.size() + total.rows.size();
  if (absl::Status status = CheckRowCount(name, rows); !status.ok()) return status;
  const StatisticsParams& params = total.params;
  const auto in_features = static_cast<size_t>(params.in_features);
  const auto larger = [](const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
    std::vector<int32_t> both(a);
    for (size_t j = 0; j < both.size(); ++j) both[j] = std::max(a[j], b[j]);
    return both;
  };
  const std::vector<int32_t> sums = larger(part.sum_exponents, total.sum_exponents);
  const std::vector<int32_t> squares = larger(part.square_exponents, total.square_exponents);
  const int part_count = CountExponent(part.rows.size());
  const int total_count = CountExponent(total.rows.size());
  // Both parts are moved to the frames of the larger bounds and of all rows, and only then added,
  // so the result does not depend on which of them is the total. Raising rounds nothing: what it
  // cuts off is what the higher frame would never have held.
  const int count = CountExponent(rows);
  // A sum's bound is one column's, so that column counts twice.
  const Reframing part_sums{part.sum_exponents, part_count, sums, count};
  const Reframing total_sums{total.sum_exponents, total_count, sums, count};
  const auto add_columns = [&](const std::vector<int64_t>& from, std::vector<int64_t>& to) {
    for (size_t at = 0; at < to.size(); ++at) {
      const size_t j = at % in_features;
      to[at] = AddWords(total_sums(to[at], j, j), part_sums(from[at], j, j));
    }
  };
  const Reframing part_squares{part.square_exponents, part_count, squares, count};
  const Reframing total_squares{total.square_exponents, total_count, squares, count};
  // Adds columns [first, first + columns) of a matrix of products of row stride ld.
  const auto add_products = [&](const int64_t* from, size_t first, size_t columns, size_t ld,
                                int64_t* to) {
    for (size_t i = 0; i < columns; ++i) {
      for (size_t j = 0; j < columns; ++j) {
        int64_t& word = to[i * ld + j];
        word = AddWords(total_squares(word, first + i, first + j),
                        part_squares(from[i * ld + j], first + i, first + j));
      }
    }
  };
  add_columns(part.sum, total.sum);
  add_columns(part.sum_abs, total.sum_abs);
  add_columns(part.sketch, total.sketch);
  if (params.ExactGram()) {
    add_products(part.gram.data(), 0, in_features, in_features, total.gram.data());
  } else {
    const auto width = static_cast<size_t>(params.block_width);
    for (size_t b = 0; b < static_cast<size_t>(params.Blocks()); ++b) {
      add_products(part.blocks.data() + b * width * width, b * width,
                   std::min(width, in_features - b * width), width,
                   total.blocks.data() + b * width * width);
    }
  }
  for (size_t k = 0; k < part.sketch_row_sums.size(); ++k) {
    total.sketch_row_sums[k] += part.sketch_row_sums[k];
  }
  for (size_t i = 0; i < part.max_abs.size(); ++i) {
    total.max_abs[i] = std::max(total.max_abs[i], part.max_abs[i]);
  }
  total.sum_exponents = sums;
  total.square_exponents = squares;
  total.rows.InsertAll(part.rows);
  total.token_count += part.token_count;
  total.sample = MergeSamples(total.sample, part.sample, total.params);
  return absl::OkStatus();
}

absl::Status CheckDisjoint(absl::string_view name, const RowSet& part, const RowSet& total) {
  const std::optional<int64_t> row = total.FirstCommon(part);
  if (!row.has_value()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(name, ": calibration row ", *row,
                   " stands in both statistics; expected parts of different rows"));
}

absl::Status CheckRowCount(absl::string_view name, int64_t rows) {
  if (rows <= kMostSummands) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(name, ": statistics of ", rows,
                                            " calibration rows; expected at most ", kMostSummands,
                                            ": make rows of more tokens"));
}

}  // namespace salient
