#include "core/statistics/statistics_file.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/kernels/binned_sums.h"
#include "core/safetensors/safetensors.h"
#include "core/statistics/sketch_signs.h"
#include "core/statistics/tensor_reader.h"
#include "core/tensor/dtype.h"
#include "core/text/quote.h"

namespace salient {
namespace {

constexpr absl::string_view kVersionKey = "salient_statistics";
constexpr absl::string_view kVersion = "2";

// This is above the exponent of any f32, squared and times kMaxTokens.
constexpr int32_t kLargestExponent = 320;

// No calibration is longer; keeps sums of counts in range.
constexpr int64_t kMaxTokens = int64_t{1} << 48;

using Shape = TensorReader::Shape;

template <typename T>
absl::Span<const std::byte> BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T)};
}

// [n, n] at `matrix`: symmetric, no negative diagonal, and 0 beyond the first `used` columns.
absl::Status CheckGram(absl::string_view name, absl::string_view tensor, const int64_t* matrix,
                       int64_t n, int64_t used) {
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t column = row; column < n; ++column) {
      const int64_t upper = matrix[row * n + column];
      const int64_t lower = matrix[column * n + row];
      absl::string_view expected;
      if (upper != lower) expected = "the same value across the diagonal";
      // A word's sign is that of its value, whatever frame it stands in.
      if (row == column && ValueOf(upper, 0) < 0) expected = "a sum of squares";
      if (column >= used && upper != 0) expected = "0 where no column is";
      if (expected.empty()) continue;
      return InvalidStatistics(name, absl::StrCat("tensor ", tensor, ", element [", row, ", ",
                                                  column, "] is ", upper, "; expected ", expected));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> ReadNumber(absl::string_view name, const SafetensorsHeader& header,
                                   const std::string& key) {
  const auto found = header.metadata().find(key);
  int64_t value = 0;
  if (found != header.metadata().end() && absl::SimpleAtoi(found->second, &value)) return value;
  return InvalidStatistics(
      name, absl::StrCat(
                "metadata ", key, " is ",
                found == header.metadata().end() ? "missing" : QuoteForMessage(found->second, 64),
                "; expected an integer"));
}

absl::StatusOr<StatisticsParams> ReadParams(absl::string_view name,
                                            const SafetensorsHeader& header) {
  // A file of another version is refused as a whole: its words mean other sums.
  const auto version = header.metadata().find(std::string(kVersionKey));
  if (version == header.metadata().end() || version->second != kVersion) {
    return InvalidStatistics(name, absl::StrCat("metadata ", kVersionKey, " is ",
                                                version == header.metadata().end()
                                                    ? "missing"
                                                    : QuoteForMessage(version->second, 64),
                                                "; expected \"", kVersion,
                                                "\": sums of other versions cannot be read, "
                                                "calibrate again"));
  }
  StatisticsParams params;
  const std::pair<const char*, int64_t*> fields[] = {
      {"in_features", &params.in_features},     {"block_width", &params.block_width},
      {"sketch_rows", &params.sketch_rows},     {"exact_gram_limit", &params.exact_gram_limit},
      {"sample_tokens", &params.sample_tokens},
  };
  for (const auto& [key, field] : fields) {
    const auto value = ReadNumber(name, header, key);
    if (!value.ok()) return value.status();
    *field = *value;
  }
  const auto seed = header.metadata().find("seed");
  if (seed == header.metadata().end() || !absl::SimpleAtoi(seed->second, &params.seed)) {
    return InvalidStatistics(name, "metadata seed is missing or no integer from 0 to 2^64 - 1");
  }
  // The params decide the shapes of all that follows, so they are judged before anything is taken.
  if (absl::Status status = CheckStatisticsParams(name, params); !status.ok()) return status;
  return params;
}

absl::StatusOr<RowSet> ReadRows(absl::string_view name, const std::vector<int64_t>& bounds) {
  std::vector<RowSet::Interval> intervals;
  for (size_t i = 0; i < bounds.size(); i += 2) {
    // Intervals that touch would be one: a set of rows has a single form, so equal sets are equal
    // bytes.
    const bool after_previous = i == 0 ? bounds[i] >= 0 : bounds[i] > bounds[i - 1];
    if (!after_previous || bounds[i + 1] <= bounds[i]) {
      return InvalidStatistics(
          name, absl::StrCat("tensor rows, interval ", i / 2, " is [", bounds[i], ", ",
                             bounds[i + 1], "); expected 0 <= begin < end, sorted, with gaps"));
    }
    intervals.push_back({bounds[i], bounds[i + 1]});
  }
  return RowSet(std::move(intervals));
}

absl::StatusOr<TokenSample> ReadSample(absl::string_view name, TensorReader& reader,
                                       const Statistics& statistics) {
  const StatisticsParams& params = statistics.params;
  // A sample has fewer tokens than were asked for only where there were no more.
  const int64_t count = std::min(params.sample_tokens, statistics.token_count);
  const auto tokens = reader.Take<int64_t>("sample_tokens", DType::kI64, {count, 2});
  if (!tokens.ok()) return tokens.status();
  auto values = reader.TakeSums<float>("sample_values", DType::kF32, {count, params.in_features},
                                       /*at_least_zero=*/false);
  if (!values.ok()) return values.status();

  TokenSample sample;
  sample.values = *std::move(values);
  for (size_t i = 0; i < tokens->size(); i += 2) {
    const int64_t row = (*tokens)[i];
    const int64_t position = (*tokens)[i + 1];
    // The hash is not stored: it follows from the seed, so that a file cannot claim another.
    const TokenSample::Key key = {SampleHash(params.seed, row, position), row, position};
    if (position < 0 || position >= statistics.token_count || !statistics.rows.Contains(row) ||
        (!sample.keys.empty() && !(sample.keys.back() < key))) {
      return InvalidStatistics(
          name, absl::StrCat("tensor sample_tokens, token ", i / 2, " is row ", row, ", position ",
                             position, "; expected counted rows, in the order of their hashes"));
    }
    sample.keys.push_back(key);
  }
  return sample;
}

absl::StatusOr<std::vector<int32_t>> ReadExponents(absl::string_view name, TensorReader& reader,
                                                   absl::string_view tensor, int64_t in_features) {
  auto exponents = reader.Take<int32_t>(tensor, DType::kI32, {in_features});
  if (!exponents.ok()) return exponents;
  for (size_t j = 0; j < exponents->size(); ++j) {
    const int32_t exponent = (*exponents)[j];
    if (exponent >= kNoBound && exponent <= kLargestExponent) continue;
    return InvalidStatistics(
        name, absl::StrCat("tensor ", tensor, ", element ", j, " is ", exponent, "; expected ",
                           kNoBound, " to ", kLargestExponent));
  }
  return exponents;
}

// Reads sums that can be those of statistics.rows.
absl::StatusOr<std::vector<int64_t>> ReadWords(absl::string_view name, TensorReader& reader,
                                               absl::string_view tensor, const Shape& shape,
                                               const Statistics& statistics) {
  auto words = reader.Take<int64_t>(tensor, DType::kI64, shape);
  if (!words.ok()) return words;
  const int64_t rows = statistics.rows.size();
  for (size_t i = 0; i < words->size(); ++i) {
    // A word that no such number of rows can add up to would overflow when more are added.
    if (IsSumOf((*words)[i], rows)) continue;
    return InvalidStatistics(name,
                             absl::StrCat("tensor ", tensor, ", element ", i, " is ", (*words)[i],
                                          "; expected digits of ", rows, " calibration rows"));
  }
  return words;
}

absl::Status ReadProducts(absl::string_view name, TensorReader& reader, Statistics& statistics) {
  const StatisticsParams& params = statistics.params;
  const int64_t in_features = params.in_features;
  const int64_t width = params.block_width;
  if (params.ExactGram()) {
    auto gram = ReadWords(name, reader, "gram", {in_features, in_features}, statistics);
    if (!gram.ok()) return gram.status();
    statistics.gram = *std::move(gram);
    return CheckGram(name, "gram", statistics.gram.data(), in_features, in_features);
  }
  auto blocks = ReadWords(name, reader, "blocks", {params.Blocks(), width, width}, statistics);
  if (!blocks.ok()) return blocks.status();
  statistics.blocks = *std::move(blocks);
  for (int64_t block = 0; block < params.Blocks(); ++block) {
    absl::Status status = CheckGram(name, absl::StrCat("blocks, block ", block),
                                    statistics.blocks.data() + block * width * width, width,
                                    std::min(width, in_features - block * width));
    if (!status.ok()) return status;
  }
  auto sketch = ReadWords(name, reader, "sketch", {params.sketch_rows, in_features}, statistics);
  if (!sketch.ok()) return sketch.status();
  statistics.sketch = *std::move(sketch);
  auto row_sums =
      reader.TakeSums<double>("sketch_row_sums", DType::kF64, {params.sketch_rows}, false);
  if (!row_sums.ok()) return row_sums.status();
  statistics.sketch_row_sums = *std::move(row_sums);
  for (size_t k = 0; k < statistics.sketch_row_sums.size(); ++k) {
    const double sum = statistics.sketch_row_sums[k];
    // Row sums of +1 and -1 are integers of at most one a token.
    if (sum == std::rint(sum) && std::fabs(sum) <= static_cast<double>(statistics.token_count)) {
      continue;
    }
    return InvalidStatistics(
        name, absl::StrCat("tensor sketch_row_sums, element ", k, " is ", sum,
                           "; expected a sum of ", statistics.token_count, " signs"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> SerializeStatistics(const Statistics& statistics) {
  const StatisticsParams& params = statistics.params;
  std::vector<int64_t> rows;
  for (const RowSet::Interval& interval : statistics.rows.intervals()) {
    rows.insert(rows.end(), {interval.begin, interval.end});
  }
  std::vector<int64_t> sample_tokens;
  for (const TokenSample::Key& key : statistics.sample.keys) {
    sample_tokens.insert(sample_tokens.end(), {key.row, key.position});
  }
  const int64_t width = params.block_width;
  const Shape columns = {params.in_features};
  const Shape rows_shape = {static_cast<int64_t>(rows.size() / 2), 2};
  const Shape tokens_shape = {static_cast<int64_t>(sample_tokens.size() / 2), 2};
  const Shape values_shape = {tokens_shape[0], params.in_features};
  const Shape gram_shape = {params.in_features, params.in_features};
  const Shape blocks_shape = {params.Blocks(), width, width};
  const Shape sketch_shape = {params.sketch_rows, params.in_features};
  const Shape row_sums_shape = {params.sketch_rows};

  std::vector<TensorToWrite> tensors = {
      {"sum_exponents", DType::kI32, columns, BytesOf(statistics.sum_exponents)},
      {"square_exponents", DType::kI32, columns, BytesOf(statistics.square_exponents)},
      {"sum", DType::kI64, columns, BytesOf(statistics.sum)},
      {"sum_abs", DType::kI64, columns, BytesOf(statistics.sum_abs)},
      {"max_abs", DType::kF32, columns, BytesOf(statistics.max_abs)},
      {"rows", DType::kI64, rows_shape, BytesOf(rows)},
      {"sample_tokens", DType::kI64, tokens_shape, BytesOf(sample_tokens)},
      {"sample_values", DType::kF32, values_shape, BytesOf(statistics.sample.values)}};
  // A file holds the whole Gram matrix or blocks and a sketch, never both; the params tell which.
  if (params.ExactGram()) {
    tensors.push_back({"gram", DType::kI64, gram_shape, BytesOf(statistics.gram)});
  } else {
    tensors.push_back({"blocks", DType::kI64, blocks_shape, BytesOf(statistics.blocks)});
    tensors.push_back({"sketch", DType::kI64, sketch_shape, BytesOf(statistics.sketch)});
    tensors.push_back(
        {"sketch_row_sums", DType::kF64, row_sums_shape, BytesOf(statistics.sketch_row_sums)});
  }
  return SerializeSafetensors(tensors, {{std::string(kVersionKey), std::string(kVersion)},
                                        {"in_features", absl::StrCat(params.in_features)},
                                        {"block_width", absl::StrCat(params.block_width)},
                                        {"sketch_rows", absl::StrCat(params.sketch_rows)},
                                        {"exact_gram_limit", absl::StrCat(params.exact_gram_limit)},
                                        {"sample_tokens", absl::StrCat(params.sample_tokens)},
                                        {"seed", absl::StrCat(params.seed)},
                                        {"token_count", absl::StrCat(statistics.token_count)}});
}

absl::StatusOr<Statistics> ParseStatistics(absl::string_view name,
                                           absl::Span<const std::byte> bytes) {
  const auto file = SafetensorsView::Parse(name, bytes);
  if (!file.ok()) return file.status();
  const auto params = ReadParams(name, file->header());
  if (!params.ok()) return params.status();
  Statistics statistics;
  statistics.params = *params;
  TensorReader reader(name, *file);

  const auto bounds = reader.Take<int64_t>("rows", DType::kI64, {-1, 2});
  if (!bounds.ok()) return bounds.status();
  auto rows = ReadRows(name, *bounds);
  if (!rows.ok()) return rows.status();
  statistics.rows = *std::move(rows);
  const auto token_count = ReadNumber(name, file->header(), "token_count");
  if (!token_count.ok()) return token_count.status();
  // Frames are bounds for a number of rows, so rows and tokens are checked before any word is read.
  const int64_t fewest = std::max<int64_t>(1, statistics.rows.size());
  if (*token_count < fewest || *token_count > kMaxTokens) {
    return InvalidStatistics(
        name, absl::StrCat("metadata token_count is ", *token_count, "; expected ", fewest,
                           ", one for each row, to 2^48"));
  }
  if (absl::Status status = CheckRowCount(name, statistics.rows.size()); !status.ok()) {
    return absl::InvalidArgumentError(status.message());
  }
  statistics.token_count = *token_count;

  const Shape columns = {params->in_features};
  auto sum_exponents = ReadExponents(name, reader, "sum_exponents", params->in_features);
  if (!sum_exponents.ok()) return sum_exponents.status();
  statistics.sum_exponents = *std::move(sum_exponents);
  auto square_exponents = ReadExponents(name, reader, "square_exponents", params->in_features);
  if (!square_exponents.ok()) return square_exponents.status();
  statistics.square_exponents = *std::move(square_exponents);
  auto sum = ReadWords(name, reader, "sum", columns, statistics);
  if (!sum.ok()) return sum.status();
  statistics.sum = *std::move(sum);
  auto sum_abs = ReadWords(name, reader, "sum_abs", columns, statistics);
  if (!sum_abs.ok()) return sum_abs.status();
  for (size_t j = 0; j < sum_abs->size(); ++j) {
    // The order of magnitude does not matter for a sign, so any frame serves.
    if (ValueOf((*sum_abs)[j], 0) >= 0) continue;
    return InvalidStatistics(name, absl::StrCat("tensor sum_abs, element ", j, " is ",
                                                (*sum_abs)[j], "; expected a sum of at least 0"));
  }
  statistics.sum_abs = *std::move(sum_abs);
  auto max_abs = reader.TakeSums<float>("max_abs", DType::kF32, columns, /*at_least_zero=*/true);
  if (!max_abs.ok()) return max_abs.status();
  statistics.max_abs = *std::move(max_abs);
  if (absl::Status status = ReadProducts(name, reader, statistics); !status.ok()) return status;
  auto sample = ReadSample(name, reader, statistics);
  if (!sample.ok()) return sample.status();
  statistics.sample = *std::move(sample);
  // A tensor that nobody knows may be of a later version that means something by it.
  if (absl::Status status = reader.CheckAllTaken(); !status.ok()) return status;
  return statistics;
}

}  // namespace salient
