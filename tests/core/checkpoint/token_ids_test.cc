#include "core/checkpoint/token_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

using NamedTexts = std::vector<std::pair<std::string, std::string>>;

std::optional<int64_t> HighestOf(const NamedTexts& files) {
  TokenIds ids;
  for (const auto& [name, text] : files) {
    const absl::Status status = ids.Add(name, text);
    EXPECT_TRUE(status.ok()) << status;
  }
  return ids.Highest();
}

TEST(TokenIdsTest, AVocabularyMayBeAnObjectOrAnArray) {
  EXPECT_EQ(
      HighestOf({{"tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 7, "": 3},
                        "merges": [["a", "b"]]}})"}}),
      7);
  EXPECT_EQ(HighestOf({{"tokenizer.json", R"({"model": {"type": "Unigram", "unk_id": 99,
                        "vocab": [["<unk>", 0.0], ["a", -1.5], ["b", -2]]}})"}}),
            2);
  EXPECT_EQ(HighestOf({{"vocab.json", R"({"a": 5, "b": 4})"}}), 5);
}

TEST(TokenIdsTest, AddedTokensCountWhereverTheyStand) {
  const std::string tokenizer =
      R"({"model": {"vocab": {"a": 3}}, "added_tokens": [{"id": 11, "content": "x"}, {"id": 9}],
          "post_processor": {"special_tokens": {"x": {"ids": [4000], "id": 4000}}}})";
  EXPECT_EQ(HighestOf({{"tokenizer.json", tokenizer}}), 11);
  EXPECT_EQ(
      HighestOf({{"tokenizer.json", tokenizer},
                 {"tokenizer_config.json",
                  R"({"added_tokens_decoder": {"12": {"content": "y"}}, "other": {"77": 1}})"}}),
      12);
  EXPECT_EQ(HighestOf({{"vocab.json", R"({"a": 3})"}, {"added_tokens.json", R"({"z": 20})"}}), 20);
}

// Additions to a vocabulary that is not there, as beside a tokenizer.model, tell nothing.
TEST(TokenIdsTest, WithoutAVocabularyNothingIsKnown) {
  EXPECT_EQ(HighestOf({}), std::nullopt);
  EXPECT_EQ(HighestOf({{"tokenizer.json", R"({"model": {}, "added_tokens": [{"id": 11}]})"},
                       {"added_tokens.json", R"({"z": 20})"},
                       {"tokenizer_config.json", R"({"added_tokens_decoder": {"12": {"c": 1}}})"}}),
            std::nullopt);
  EXPECT_EQ(HighestOf({{"vocab.json", R"({"a": "5", "b": 1.5, "c": {"d": 3}})"}}), std::nullopt);
}

TEST(TokenIdsTest, WhatCannotBeReadIsAnErrorByName) {
  std::string deep = R"({"model": {"vocab": {"a": 3}}, "decoder": )";
  for (int i = 0; i < 100; ++i) deep += "[";
  TokenIds ids;
  for (const auto& [name, text, fault] :
       {std::tuple{"tokenizer.json", std::string("{\"model\": "), "tokenizer.json: not valid JSON"},
        {"vocab.json", std::string("version https://git-lfs"), "vocab.json: not valid JSON"},
        {"tokenizer.json", deep, "nested deeper than 64 levels"},
        {"merges.txt", std::string("{}"), "gives no ids"}}) {
    const absl::Status status = ids.Add(name, text);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(fault));
  }
}

// More values than a document may have that is kept.
TEST(TokenIdsTest, LargeVocabulariesAreRead) {
  std::string text = R"({"model": {"vocab": {"<s>": 0)";
  for (int i = 1; i < 300000; ++i) absl::StrAppend(&text, ", \"t", i, "\": ", i);
  text += R"(}, "merges": ["a b")";
  for (int i = 0; i < 900000; ++i) text += ", \"a b\"";
  EXPECT_EQ(HighestOf({{"tokenizer.json", text + "]}}"}}), 299999);
}

}  // namespace
}  // namespace salient
