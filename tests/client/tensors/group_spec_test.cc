#include "client/tensors/group_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace salient::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(GroupSpecTest, FlagNamesAGroupAndItsLinears) {
  const auto spec = ParseGroupFlag("qkv=layers.0.q_proj,layers.0.k_proj");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->name, "qkv");
  EXPECT_THAT(spec->linears, ElementsAre("layers.0.q_proj", "layers.0.k_proj"));
  EXPECT_TRUE(spec->input.empty());
  EXPECT_FALSE(spec->tied_heads.has_value());
}

TEST(GroupSpecTest, MalformedFlagIsQuoted) {
  for (const char* text : {"", "qkv", "qkv=", "=a", "qkv=a,", "qkv=,a", "qkv=a,,b"}) {
    const auto spec = ParseGroupFlag(text);
    EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(spec.status().message(), HasSubstr("expected NAME=LINEAR"));
    EXPECT_THAT(spec.status().message(), HasSubstr(std::string("\"") + text + "\""));
  }
}

TEST(GroupSpecTest, JsonReadsEveryMember) {
  const auto specs = ParseGroupsJson("groups.json", R"([
    {"name": "qkv", "linears": ["q", "k", "v"]},
    {"name": "o", "linears": ["o"], "input": "attention_output",
     "tied_heads": {"head_dim": 32, "query_heads_per_kv_head": 2}}])");
  ASSERT_TRUE(specs.ok()) << specs.status();
  ASSERT_EQ(specs->size(), 2u);
  EXPECT_THAT((*specs)[0].linears, ElementsAre("q", "k", "v"));
  EXPECT_FALSE((*specs)[0].tied_heads.has_value());
  EXPECT_EQ((*specs)[1].input, "attention_output");
  ASSERT_TRUE((*specs)[1].tied_heads.has_value());
  EXPECT_EQ((*specs)[1].tied_heads->head_dim, 32);
  EXPECT_EQ((*specs)[1].tied_heads->query_heads_per_kv_head, 2);
}

TEST(GroupSpecTest, BadJsonNamesFilePlaceAndExpectation) {
  struct Case {
    const char* json;
    const char* place;
    const char* expectation;
  };
  const Case cases[] = {
      {"[", "groups.json", ""},
      {"{}", "groups.json", "expected an array of at least one group"},
      {"[]", "groups.json", "expected an array of at least one group"},
      {"[3]", "groups[0]", "expected an object"},
      {R"([{"linears": ["a"]}])", "groups[0].name is missing", "expected a string"},
      {R"([{"name": "", "linears": ["a"]}])", "groups[0].name", "expected a string that is not"},
      {R"([{"name": "g"}])", "groups[0].linears is missing", "expected an array"},
      {R"([{"name": "g", "linears": []}])", "groups[0].linears", "expected an array"},
      {R"([{"name": "g", "linears": ["a", 2]}])", "groups[0].linears[1] is 2", "expected a string"},
      {R"([{"name": "g", "linears": ["a"], "inputs": "x"}])", "groups[0]",
       R"(unknown member "inputs")"},
      {R"([{"name": "g", "linears": ["a"], "input": 1}])", "groups[0].input is 1",
       "expected a string"},
      {R"([{"name": "g", "linears": ["a"], "tied_heads": []}])", "groups[0].tied_heads",
       "expected an object"},
      {R"([{"name": "g", "linears": ["a"], "tied_heads": {"head_dim": 0,
            "query_heads_per_kv_head": 1}}])",
       "groups[0].tied_heads.head_dim is 0", "expected an integer of at least 1"},
      {R"([{"name": "g", "linears": ["a"], "tied_heads": {"head_dim": 4}}])",
       "groups[0].tied_heads.query_heads_per_kv_head is missing", "expected an integer"},
  };
  for (const Case& bad : cases) {
    const auto specs = ParseGroupsJson("groups.json", bad.json);
    ASSERT_FALSE(specs.ok()) << bad.json;
    EXPECT_EQ(specs.status().code(), absl::StatusCode::kInvalidArgument) << bad.json;
    EXPECT_THAT(specs.status().message(), HasSubstr("groups.json"));
    EXPECT_THAT(specs.status().message(), HasSubstr(bad.place));
    EXPECT_THAT(specs.status().message(), HasSubstr(bad.expectation));
  }
}

TEST(GroupSpecTest, ActivationsNameGroupsOfOneLinear) {
  const auto header = ParseSafetensorsHeader(
      "x.safetensors",
      R"({"b.input": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
          "b.lengths": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]},
          "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [16, 24]}})",
      24);
  ASSERT_TRUE(header.ok()) << header.status();
  const std::vector<RequestedGroup> specs = GroupsNamedByActivations(*header);
  ASSERT_EQ(specs.size(), 2u);
  EXPECT_EQ(specs[0].name, "b");
  EXPECT_THAT(specs[0].linears, ElementsAre("b"));
  EXPECT_EQ(specs[0].input, "b.input");
  EXPECT_EQ(specs[1].name, "a");
  EXPECT_EQ(specs[1].input, "a");
}

}  // namespace
}  // namespace salient::client
