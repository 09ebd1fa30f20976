#include "core/checkpoint/shard_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/config/json.h"
#include "core/text/quote.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr int64_t kMega = 1'000'000;

std::string IndexError(const std::string& json) {
  const auto index = ParseShardIndex("dir/index.json", json);
  EXPECT_EQ(index.status().code(), absl::StatusCode::kInvalidArgument) << json;
  EXPECT_THAT(std::string(index.status().message()), HasSubstr("dir/index.json")) << json;
  return std::string(index.status().message());
}

TEST(ShardIndexTest, ReadsWhereTensorsLie) {
  const auto index = ParseShardIndex("dir/index.json",
                                     "{\"metadata\":{\"total_size\":12},\"weight_map\":"
                                     "{\"b\":\"y.safetensors\",\"a\":\"x.safetensors\","
                                     "\"c\":\"x.safetensors\"}}");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_THAT(index->files, ElementsAre("x.safetensors", "y.safetensors"));
  EXPECT_THAT(index->weight_map, ElementsAre(Pair("a", 0), Pair("b", 1), Pair("c", 0)));
}

TEST(ShardIndexTest, AcceptsTheMetadataThatPublishedFilesHave) {
  for (const char* metadata :
       {"", "\"metadata\":null,", "\"metadata\":{},",
        "\"metadata\":{\"total_size\":13476839424.0},", "\"metadata\":{\"total_size\":\"12\"},",
        "\"metadata\":{\"total_size\":1,\"total_parameters\":2},"}) {
    EXPECT_TRUE(ParseShardIndex(
                    "i", absl::StrCat("{", metadata, "\"weight_map\":{\"a\":\"x.safetensors\"}}"))
                    .ok())
        << metadata;
  }
}

TEST(ShardIndexTest, EveryFaultNamesFieldAndValue) {
  EXPECT_THAT(IndexError("[]"), HasSubstr("an array of 0; expected an object"));
  EXPECT_THAT(IndexError("{}"), HasSubstr("weight_map is missing"));
  EXPECT_THAT(IndexError("{\"weight_map\":[]}"), HasSubstr("weight_map is an array of 0"));
  EXPECT_THAT(IndexError("{\"weight_map\":{}}"), HasSubstr("weight_map is an object of 0"));
  EXPECT_THAT(IndexError("{\"weight_map\":{\"a\":3}}"),
              HasSubstr("weight_map[\"a\"] is 3; expected the name of a file"));
  EXPECT_THAT(IndexError("{\"weight_map\":{\"\":\"x.safetensors\"}}"), HasSubstr("empty name"));
  EXPECT_THAT(IndexError(absl::StrCat("{\"weight_map\":{\"", std::string(513, 'a'),
                                      "\":\"x.safetensors\"}}")),
              HasSubstr("513 bytes; expected at most 512"));
  EXPECT_THAT(IndexError("{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"y.safetensors\"}}"),
              HasSubstr("a"));
}

TEST(ShardIndexTest, FileNamesLeadNowhereElse) {
  for (const std::string name :
       {"../x.safetensors", "..", "sub/x.safetensors", "/etc/x.safetensors", "a\\b.safetensors",
        ".safetensors", ".x.safetensors", "x.bin", "", "x.safetensors ", "x.safetensors/.."}) {
    EXPECT_FALSE(CheckShardName("i", name).ok()) << name;
    EXPECT_THAT(IndexError(absl::StrCat("{\"weight_map\":{\"a\":", JsonQuote(name), "}}")),
                HasSubstr(QuoteForMessage(name)));
  }
  EXPECT_FALSE(CheckShardName("i", std::string("a\0.safetensors", 14)).ok());
  EXPECT_FALSE(CheckShardName("i", std::string(244, 'a') + ".safetensors").ok());
  EXPECT_TRUE(CheckShardName("i", std::string(243, 'a') + ".safetensors").ok());
  EXPECT_TRUE(CheckShardName("i", "model-00001-of-00002.safetensors").ok());
}

// Names of `plan`'s tensors, file by file.
std::vector<std::vector<size_t>> Cut(const ShardPlan& plan) {
  std::vector<std::vector<size_t>> cut;
  for (const Shard& shard : plan.shards) cut.push_back(shard.tensors);
  return cut;
}

TEST(PlanShardsTest, OneFileHasNoIndex) {
  const auto plan = PlanShards({{{"a.weight", 3 * kMega}, {"b.weight", 2 * kMega}}}, 5 * kMega);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->shards.size(), 1u);
  EXPECT_EQ(plan->shards[0].file, "model.safetensors");
  EXPECT_EQ(plan->shards[0].bytes, 5 * kMega);
  EXPECT_EQ(plan->total_bytes, 5 * kMega);
  EXPECT_EQ(plan->index_json, "");
}

TEST(PlanShardsTest, CutsInOrderAndKeepsALinearTogether) {
  const std::vector<TensorSize> tensors = {{"embed.weight", 4},   {"l.q.qweight", 3},
                                           {"l.q.qzeros", 1},     {"l.q.scales", 2},
                                           {"l.down.weight", 30}, {"norm.weight", 1}};
  const auto plan = PlanShards(tensors, 9);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(Cut(*plan),
              ElementsAre(ElementsAre(0), ElementsAre(1, 2, 3), ElementsAre(4), ElementsAre(5)));
  EXPECT_EQ(plan->total_bytes, 41);
  EXPECT_EQ(plan->shards[3].file, "model-00004-of-00004.safetensors");
  // With one byte more the first two fit into one file.
  EXPECT_THAT(Cut(*PlanShards(tensors, 10)),
              ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(4), ElementsAre(5)));
}

TEST(PlanShardsTest, WritesTheIndexAsTheReferenceDoes) {
  const auto plan = PlanShards({{{"b.weight", 2}, {"a.weight", 3}}}, 3);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->index_json,
            "{\n  \"metadata\": {\n    \"total_size\": 5\n  },\n  \"weight_map\": {\n"
            "    \"a.weight\": \"model-00002-of-00002.safetensors\",\n"
            "    \"b.weight\": \"model-00001-of-00002.safetensors\"\n  }\n}\n");
  // And reads it.
  const auto index = ParseShardIndex("i", plan->index_json);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_THAT(index->weight_map, ElementsAre(Pair("a.weight", 1), Pair("b.weight", 0)));
}

TEST(PlanShardsTest, TheUsualLimitIsFiveDecimalGigabytes) {
  const std::vector<TensorSize> tensors = {{"a.w", 4'999'999'999}, {"b.w", 1}, {"c.w", 1}};
  EXPECT_THAT(Cut(*PlanShards(tensors)), ElementsAre(ElementsAre(0, 1), ElementsAre(2)));
}

TEST(PlanShardsTest, RefusesWhatNoReaderTakes) {
  const auto code = [](std::vector<TensorSize> tensors, int64_t limit) {
    return PlanShards(tensors, limit).status().code();
  };
  EXPECT_EQ(code({}, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", 1}, {"b", 1}, {"a", 1}}, 9), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"", 1}}, 9), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", -1}}, 9), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({{"a", 1}}, 0), absl::StatusCode::kInvalidArgument);
  std::vector<TensorSize> many;
  for (size_t i = 0; i <= kMaxShards; ++i) many.push_back({absl::StrCat("a", i, ".w"), 1});
  EXPECT_EQ(code(many, 1), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace salient
