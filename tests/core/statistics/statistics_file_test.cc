#include "core/statistics/statistics_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/parallel/executor.h"
#include "core/safetensors/safetensors.h"
#include "core/statistics/accumulator.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "tests/support/calibration_rows.h"

namespace salient {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Rows 0..2 and 7, 260 tokens in all.
Statistics Example(const StatisticsParams& params) {
  LimitThreadToItself();
  SerialExecutor serial;
  auto rows = testing::MakeRows(1, params.in_features, {100, 30, 70, 60});
  rows[3].index = 7;
  auto accumulator = StatisticsAccumulator::Create("g", params);
  EXPECT_TRUE(accumulator.ok());
  for (const auto& row : rows) {
    EXPECT_TRUE(testing::FoldRow(
                    *accumulator, row, [] { return 100; }, serial)
                    .ok());
  }
  auto statistics = (*std::move(accumulator)).Finish(serial);
  EXPECT_TRUE(statistics.ok());
  return *std::move(statistics);
}

StatisticsParams GramParams() { return {20, 256, 64, 1024, 16, 5}; }
StatisticsParams BlockParams() { return {20, 16, 64, 0, 16, 5}; }

std::vector<std::byte> Serialize(const Statistics& statistics) {
  auto bytes = SerializeStatistics(statistics);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return *std::move(bytes);
}

TEST(StatisticsFileTest, ReadsBackBitForBit) {
  for (const StatisticsParams& params :
       {GramParams(), BlockParams(), StatisticsParams{1100, 256, 100, 1024, 0, UINT64_MAX}}) {
    const Statistics before = Example(params);
    const std::vector<std::byte> bytes = Serialize(before);
    const auto after = ParseStatistics("s.safetensors", bytes);
    ASSERT_TRUE(after.ok()) << after.status();
    EXPECT_EQ(after->params, before.params);
    EXPECT_EQ(after->rows, before.rows);
    EXPECT_EQ(after->token_count, 260);
    EXPECT_EQ(after->sum_exponents, before.sum_exponents);
    EXPECT_EQ(after->square_exponents, before.square_exponents);
    EXPECT_EQ(after->sum, before.sum);
    EXPECT_EQ(after->sum_abs, before.sum_abs);
    EXPECT_EQ(after->max_abs, before.max_abs);
    EXPECT_EQ(after->gram, before.gram);
    EXPECT_EQ(after->blocks, before.blocks);
    EXPECT_EQ(after->sketch, before.sketch);
    EXPECT_EQ(after->sketch_row_sums, before.sketch_row_sums);
    EXPECT_EQ(after->sample.keys, before.sample.keys);
    EXPECT_EQ(after->sample.values, before.sample.values);
    EXPECT_EQ(Serialize(*after), bytes);
  }
}

// A file in pieces, for changing one of them.
struct Pieces {
  std::map<std::string, NamedTensor> tensors;
  std::map<std::string, std::string> metadata;

  template <typename T>
  void Set(const std::string& tensor, size_t index, T value) {
    std::memcpy(tensors.at(tensor).data.data() + index * sizeof(T), &value, sizeof(T));
  }
  template <typename T>
  T Get(const std::string& tensor, size_t index) {
    T value;
    std::memcpy(&value, tensors.at(tensor).data.data() + index * sizeof(T), sizeof(T));
    return value;
  }
};

Pieces Split(const std::vector<std::byte>& bytes) {
  const auto view = SafetensorsView::Parse("x", bytes);
  EXPECT_TRUE(view.ok());
  Pieces pieces;
  pieces.metadata = view->header().metadata();
  for (const TensorEntry& entry : view->header().tensors()) {
    const auto data = *view->Tensor(entry.name);
    pieces.tensors[entry.name] = {entry.name, entry.dtype, entry.shape,
                                  std::vector<std::byte>(data.begin(), data.end())};
  }
  return pieces;
}

std::vector<std::byte> Join(const Pieces& pieces) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, tensor] : pieces.tensors) {
    tensors.push_back({name, tensor.dtype, tensor.shape, tensor.data});
  }
  auto bytes = SerializeSafetensors(tensors, pieces.metadata);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return *std::move(bytes);
}

struct Case {
  const char* error;  // a part of it
  std::function<void(Pieces&)> tamper;
};

void ExpectRefused(const StatisticsParams& params, const std::vector<Case>& cases) {
  const std::vector<std::byte> good = Serialize(Example(params));
  ASSERT_EQ(Join(Split(good)), good);
  for (const Case& c : cases) {
    Pieces pieces = Split(good);
    c.tamper(pieces);
    const auto parsed = ParseStatistics("bad.safetensors", Join(pieces));
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << c.error;
    EXPECT_THAT(std::string(parsed.status().message()),
                AllOf(HasSubstr("bad.safetensors"), HasSubstr(c.error)));
  }
}

TEST(StatisticsFileTest, MetadataIsChecked) {
  const auto set = [](const char* key, const char* value) {
    return [=](Pieces& p) { p.metadata[key] = value; };
  };
  const auto erase = [](const char* key) { return [=](Pieces& p) { p.metadata.erase(key); }; };
  ExpectRefused(
      GramParams(),
      {{"salient_statistics is \"1\"; expected \"2\": sums of other versions cannot be read, "
        "calibrate again",
        set("salient_statistics", "1")},
       {"salient_statistics is missing", erase("salient_statistics")},
       {"in_features is missing", erase("in_features")},
       {"in_features is \"20.0\"", set("in_features", "20.0")},
       {"in_features is 0", set("in_features", "0")},
       {"in_features is 4611686018427387904", set("in_features", "4611686018427387904")},
       {"in_features is \"99999999999999999999\"", set("in_features", "99999999999999999999")},
       {"block_width is 100", set("block_width", "100")},
       {"sketch_rows is -1", set("sketch_rows", "-1")},
       {"exact_gram_limit is 1000000", set("exact_gram_limit", "1000000")},
       {"sample_tokens is -5", set("sample_tokens", "-5")},
       {"seed", set("seed", "-1")},
       {"seed", erase("seed")},
       {"token_count is 202; expected",
        [](Pieces& p) {
          // More rows than tokens.
          p.metadata["token_count"] = "202";
          p.Set<int64_t>("rows", 1, 6);
          p.Set<int64_t>("rows", 2, 70);
          p.Set<int64_t>("rows", 3, 270);
        }},
       {"token_count is 0", set("token_count", "0")},
       {"token_count is 9223372036854775807", set("token_count", "9223372036854775807")},
       {"token_count is \"many\"", set("token_count", "many")}});
}

TEST(StatisticsFileTest, TensorsAreChecked) {
  const auto erase = [](const char* name) { return [=](Pieces& p) { p.tensors.erase(name); }; };
  ExpectRefused(
      GramParams(),
      {{"tensor sum is missing; expected I64 [20]", erase("sum")},
       {"tensor rows is missing", erase("rows")},
       {"tensor gram is missing; expected I64 [20, 20]", erase("gram")},
       {"tensor sample_values is missing", erase("sample_values")},
       {"tensor max_abs is I32 [20]; expected F32 [20]",
        [](Pieces& p) { p.tensors.at("max_abs").dtype = DType::kI32; }},
       {"tensor sum is I64 [4, 5]; expected I64 [20]",
        [](Pieces& p) {
          p.tensors.at("sum").shape = {4, 5};
        }},
       {"tensor rows is I64 [4]; expected I64 [-1, 2]",
        [](Pieces& p) { p.tensors.at("rows").shape = {4}; }},
       {"tensor sum_exponents is I32 [20]; expected I32 [21]",
        [](Pieces& p) { p.metadata["in_features"] = "21"; }},
       {"10 tensors; expected 9",
        [](Pieces& p) {
          p.tensors["more"] = {"more", DType::kU8, {0}, {}};
        }},
       {"tensor sum_exponents, element 2 is 321",
        [](Pieces& p) { p.Set("sum_exponents", 2, 321); }},
       {"tensor square_exponents, element 1 is -321",
        [](Pieces& p) { p.Set("square_exponents", 1, -321); }},
       {"tensor sum, element 3 is 9223372036854775807; expected digits of 4",
        [](Pieces& p) { p.Set<int64_t>("sum", 3, INT64_MAX); }},
       {"tensor sum_abs, element 4 is 549755813888; expected digits of 4",
        [](Pieces& p) { p.Set<int64_t>("sum_abs", 4, int64_t{1} << 39); }},
       {"tensor sum_abs, element 4 is -1;", [](Pieces& p) { p.Set<int64_t>("sum_abs", 4, -1); }},
       {"tensor max_abs, element 0 is -1;", [](Pieces& p) { p.Set("max_abs", 0, -1.0f); }},
       {"tensor gram, element 5 is", [](Pieces& p) { p.Set<int64_t>("gram", 5, INT64_MIN); }},
       {"tensor gram, element [0, 5] is", [](Pieces& p) { p.Set<int64_t>("gram", 5, 9); }},
       {"tensor gram, element [1, 1] is -2", [](Pieces& p) { p.Set<int64_t>("gram", 21, -2); }},
       {"tensor sample_values, element 7 is nan",
        [](Pieces& p) { p.Set("sample_values", 7, std::nanf("")); }}});
}

TEST(StatisticsFileTest, BlocksAndSketchAreChecked) {
  // Two blocks of 16; the second has 4 columns.
  ExpectRefused(
      BlockParams(),
      {{"tensor blocks is missing; expected I64 [2, 16, 16]",
        [](Pieces& p) { p.tensors.erase("blocks"); }},
       {"tensor sketch is missing; expected I64 [64, 20]",
        [](Pieces& p) { p.tensors.erase("sketch"); }},
       {"tensor gram is missing", [](Pieces& p) { p.metadata["exact_gram_limit"] = "20"; }},
       {"blocks, block 1, element [0, 4] is 1; expected 0 where no column is",
        [](Pieces& p) {
          p.Set<int64_t>("blocks", 256 + 4, 1);
          p.Set<int64_t>("blocks", 256 + 64, 1);
        }},
       {"blocks, block 0, element [2, 3]",
        [](Pieces& p) { p.Set<int64_t>("blocks", 2 * 16 + 3, 9); }},
       {"tensor sketch, element 9 is", [](Pieces& p) { p.Set<int64_t>("sketch", 9, INT64_MAX); }},
       {"tensor sketch_row_sums, element 2 is 0.5",
        [](Pieces& p) { p.Set("sketch_row_sums", 2, 0.5); }},
       {"tensor sketch_row_sums, element 2 is 261",
        [](Pieces& p) { p.Set("sketch_row_sums", 2, 261.0); }}});
}

TEST(StatisticsFileTest, RowsAndSampleAreChecked) {
  const auto rows = [](std::vector<int64_t> bounds) {
    return [=](Pieces& p) {
      for (size_t i = 0; i < 4; ++i) p.Set("rows", i, bounds[i]);
    };
  };
  ExpectRefused(GramParams(),
                {{"interval 0 is [-1, 3)", rows({-1, 3, 7, 8})},
                 {"interval 0 is [3, 3)", rows({3, 3, 7, 8})},
                 {"interval 1 is [3, 8)", rows({0, 3, 3, 8})},  // touching: one interval
                 {"interval 1 is [2, 8)", rows({0, 3, 2, 8})},  // overlapping
                 {"interval 1 is [0, 3)", rows({7, 8, 0, 3})},  // unsorted
                 {"interval 1 is [8, 7)", rows({0, 3, 8, 7})},
                 {"token_count is 260; expected", rows({0, 3, 7, INT64_MAX})},
                 {"token 0 is row", [](Pieces& p) { p.Set<int64_t>("sample_tokens", 0, 5); }},
                 {"position -1;", [](Pieces& p) { p.Set<int64_t>("sample_tokens", 1, -1); }},
                 {"token 1 is row",
                  [](Pieces& p) {
                    // The first two the other way round.
                    for (size_t i = 0; i < 2; ++i) {
                      const auto first = p.Get<int64_t>("sample_tokens", i);
                      p.Set("sample_tokens", i, p.Get<int64_t>("sample_tokens", 2 + i));
                      p.Set("sample_tokens", 2 + i, first);
                    }
                  }},
                 {"token 1 is row",
                  [](Pieces& p) {
                    // One token twice.
                    for (size_t i = 0; i < 2; ++i) {
                      p.Set("sample_tokens", 2 + i, p.Get<int64_t>("sample_tokens", i));
                    }
                  }},
                 {"sample_tokens is I64 [16, 2]; expected I64 [15, 2]",
                  [](Pieces& p) { p.metadata["sample_tokens"] = "15"; }}});
}

TEST(StatisticsFileTest, BrokenBytesGiveAnAnswer) {
  const std::vector<std::byte> good = Serialize(Example(BlockParams()));
  for (size_t size = 0; size < good.size(); size += 1 + size / 16) {
    EXPECT_FALSE(ParseStatistics("x", absl::MakeConstSpan(good.data(), size)).ok()) << size;
  }
  std::mt19937 random(4);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::byte> broken = good;
    broken[random() % broken.size()] = static_cast<std::byte>(random());
    const auto parsed = ParseStatistics("x", broken);
    refused += !parsed.ok();
    // A file that is accepted is whole: it can be used like any other.
    if (parsed.ok()) {
      Statistics total = EmptyStatistics(parsed->params);
      EXPECT_TRUE(MergeStatistics("g", *parsed, total).ok());
    }
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace salient
