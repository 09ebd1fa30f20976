#include "core/statistics/statistics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/statistics/token_sampler.h"

namespace salient {
namespace {

// Whether every vector has the size that params ask for.
bool IsWellFormed(const Statistics& statistics) {
  const StatisticsParams& params = statistics.params;
  const size_t in_features = static_cast<size_t>(params.in_features);
  const bool exact = params.ExactGram();
  const auto block_values =
      static_cast<size_t>(params.Blocks() * params.block_width * params.block_width);
  const auto sketch_rows = static_cast<size_t>(params.sketch_rows);
  return statistics.sum.size() == in_features && statistics.sum_abs.size() == in_features &&
         statistics.max_abs.size() == in_features &&
         statistics.gram.size() == (exact ? in_features * in_features : 0) &&
         statistics.blocks.size() == (exact ? 0 : block_values) &&
         statistics.sketch.size() == (exact ? 0 : sketch_rows * in_features) &&
         statistics.sketch_row_sums.size() == (exact ? 0 : sketch_rows) &&
         statistics.sample.values.size() == statistics.sample.keys.size() * in_features;
}

void AddTo(const std::vector<double>& part, std::vector<double>& total) {
  for (size_t i = 0; i < part.size(); ++i) total[i] += part[i];
}

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
  if (const std::optional<int64_t> row = total.rows.FirstCommon(part.rows)) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, ": calibration row ", *row,
                     " stands in both statistics; expected parts of different rows"));
  }
  total.rows.InsertAll(part.rows);
  total.token_count += part.token_count;
  AddTo(part.sum, total.sum);
  AddTo(part.sum_abs, total.sum_abs);
  for (size_t i = 0; i < part.max_abs.size(); ++i) {
    total.max_abs[i] = std::max(total.max_abs[i], part.max_abs[i]);
  }
  AddTo(part.gram, total.gram);
  AddTo(part.blocks, total.blocks);
  AddTo(part.sketch, total.sketch);
  AddTo(part.sketch_row_sums, total.sketch_row_sums);
  total.sample = MergeSamples(total.sample, part.sample, total.params);
  return absl::OkStatus();
}

}  // namespace salient
