#include "core/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/shard_index.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A directory of small files; tensor `name` holds two bytes: its letter and 7.
class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest()
      : directory_(absl::StrCat(::testing::TempDir(), "checkpoint_test_",
                                ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directory(directory_);
  }
  ~CheckpointTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  void WriteFile(const std::string& file, const std::string& tensors) const {
    std::vector<NamedTensor> named;
    for (const char letter : tensors) {
      named.push_back({std::string(1, letter),
                       DType::kU8,
                       {2},
                       {static_cast<std::byte>(letter), static_cast<std::byte>(7)}});
    }
    ASSERT_TRUE(WriteSafetensors(Path(file), ToWrite(named), {}).ok());
  }

  void WriteText(const std::string& file, const std::string& text) const {
    std::ofstream(Path(file), std::ios::binary) << text;
  }

  void WriteIndex(const std::string& weight_map) const {
    WriteText("model.safetensors.index.json", "{\"weight_map\":{" + weight_map + "}}");
  }

  std::string OpenError(absl::StatusCode code) const {
    const auto checkpoint = Checkpoint::Open(directory_);
    EXPECT_EQ(checkpoint.status().code(), code) << checkpoint.status();
    EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(directory_));
    return std::string(checkpoint.status().message());
  }

  std::string directory_;
};

TEST_F(CheckpointTest, OpensASingleFile) {
  WriteFile("model.safetensors", "ab");
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("a", "b"));
  EXPECT_THAT(*checkpoint->Read("b"), ElementsAre(std::byte{'b'}, std::byte{7}));
}

TEST_F(CheckpointTest, FindsATensorInItsShard) {
  WriteFile("x.safetensors", "ac");
  WriteFile("y.safetensors", "b");
  WriteFile("z.safetensors", "d");  // It is not in the index and none of our business.
  WriteIndex("\"a\":\"x.safetensors\",\"b\":\"y.safetensors\",\"c\":\"x.safetensors\"");
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("a", "b", "c"));
  const auto found = checkpoint->Find("b");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->file, Path("y.safetensors"));
  EXPECT_EQ(found->entry->shape, std::vector<int64_t>{2});
  std::vector<std::byte> byte(1);
  ASSERT_TRUE(checkpoint->ReadRange("c", 0, absl::MakeSpan(byte)).ok());
  EXPECT_EQ(byte[0], std::byte{'c'});
  EXPECT_EQ(checkpoint->ReadRange("c", 2, absl::MakeSpan(byte)).code(),
            absl::StatusCode::kOutOfRange);
  for (const char* missing : {"d", "", "../../x"}) {
    EXPECT_EQ(checkpoint->Find(missing).status().code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(checkpoint->Read(missing).status().code(), absl::StatusCode::kNotFound);
  }
}

TEST_F(CheckpointTest, WhatIsPlannedAndWrittenCanBeOpened) {
  const auto plan = PlanShards({{{"a", 2}, {"b", 2}, {"c", 2}}}, 4);
  ASSERT_TRUE(plan.ok()) << plan.status();
  WriteFile(plan->shards[0].file, "ab");
  WriteFile(plan->shards[1].file, "c");
  WriteText(kShardIndexName, plan->index_json);
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(*checkpoint->Read("c"), ElementsAre(std::byte{'c'}, std::byte{7}));
}

TEST_F(CheckpointTest, ADirectoryWithoutModelIsNotFound) {
  EXPECT_THAT(OpenError(absl::StatusCode::kNotFound), HasSubstr("model.safetensors.index.json"));
}

// mlx-lm writes such an index.
TEST_F(CheckpointTest, AnIndexMayNameTheSingleFile) {
  WriteFile("model.safetensors", "ab");
  WriteIndex("\"a\":\"model.safetensors\"");
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("a", "b"));
}

TEST_F(CheckpointTest, OneFileAndAnIndexOfOthersContradictEachOther) {
  WriteFile("model.safetensors", "a");
  WriteFile("x.safetensors", "a");
  WriteIndex("\"a\":\"x.safetensors\"");
  EXPECT_THAT(OpenError(absl::StatusCode::kInvalidArgument), HasSubstr("expected one of them"));
}

TEST_F(CheckpointTest, AMissingShardIsNotFound) {
  WriteIndex("\"a\":\"x.safetensors\"");
  EXPECT_THAT(OpenError(absl::StatusCode::kNotFound), HasSubstr("x.safetensors"));
}

TEST_F(CheckpointTest, ATensorThatItsShardLacksIsNamed) {
  WriteFile("x.safetensors", "a");
  WriteIndex("\"a\":\"x.safetensors\",\"b\":\"x.safetensors\"");
  EXPECT_THAT(OpenError(absl::StatusCode::kInvalidArgument),
              HasSubstr("x.safetensors: tensor \"b\" is missing"));
}

TEST_F(CheckpointTest, EqualCopiesInTwoShardsAreOneTensor) {
  WriteFile("x.safetensors", "a");
  WriteFile("y.safetensors", "ab");
  WriteIndex("\"a\":\"y.safetensors\"");
  const auto checkpoint = Checkpoint::Open(directory_);
  // The index names y alone, so x is not read.
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  WriteIndex("\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"");
  const auto both = Checkpoint::Open(directory_);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_THAT(both->TensorNames(), ElementsAre("a", "b"));
  EXPECT_EQ(both->Find("a")->file, Path("x.safetensors"));
}

TEST_F(CheckpointTest, UnequalCopiesInTwoShardsAreNamed) {
  WriteFile("x.safetensors", "a");
  WriteIndex("\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"");
  const std::vector<std::byte> b = {std::byte{'b'}, std::byte{7}};
  // The copies have other bytes, another shape, another dtype.
  for (const NamedTensor& copy :
       {NamedTensor{"a", DType::kU8, {2}, {std::byte{'a'}, std::byte{8}}},
        NamedTensor{"a", DType::kU8, {2, 1}, {std::byte{'a'}, std::byte{7}}},
        NamedTensor{"a", DType::kI8, {2}, {std::byte{'a'}, std::byte{7}}}}) {
    const std::vector<NamedTensor> tensors = {copy, {"b", DType::kU8, {2}, b}};
    ASSERT_TRUE(WriteSafetensors(Path("y.safetensors"), ToWrite(tensors), {}).ok());
    const std::string error = OpenError(absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(error, HasSubstr("y.safetensors: tensor \"a\" is also in"));
    EXPECT_THAT(error, HasSubstr("x.safetensors and differs from it"));
  }
}

// Copies are compared a megabyte at a time.
TEST_F(CheckpointTest, LongCopiesThatDifferInTheirLastByteAreNamed) {
  constexpr int64_t kBytes = (int64_t{1} << 20) + 1;
  NamedTensor copy{"a", DType::kU8, {kBytes}, std::vector<std::byte>(kBytes)};
  const auto write = [&](const char* file) {
    const std::vector<NamedTensor> tensors = {copy, {"b", DType::kU8, {1}, {std::byte{'b'}}}};
    return WriteSafetensors(Path(file), ToWrite(tensors), {});
  };
  ASSERT_TRUE(write("x.safetensors").ok());
  ASSERT_TRUE(write("y.safetensors").ok());
  WriteIndex("\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"");
  EXPECT_TRUE(Checkpoint::Open(directory_).ok());
  copy.data.back() = std::byte{1};
  ASSERT_TRUE(write("y.safetensors").ok());
  EXPECT_THAT(OpenError(absl::StatusCode::kInvalidArgument),
              HasSubstr("y.safetensors: tensor \"a\" is also in"));
}

TEST_F(CheckpointTest, TensorsThatTheIndexDoesNotKnowCount) {
  WriteFile("x.safetensors", "ab");
  WriteFile("y.safetensors", "c");
  WriteIndex("\"a\":\"x.safetensors\",\"c\":\"y.safetensors\"");
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(*checkpoint->Read("b"), ElementsAre(std::byte{'b'}, std::byte{7}));
}

// A decoder that is saved alone has such names.
TEST_F(CheckpointTest, NamesWithoutTheDecodersPrefixGetIt) {
  const auto tensor = [](const char* name, char value) {
    return NamedTensor{name, DType::kU8, {1}, {static_cast<std::byte>(value)}};
  };
  const std::vector<NamedTensor> bare = {tensor("embed_tokens.weight", 'e'),
                                         tensor("layers.0.w", 'l'), tensor("lm_head.weight", 'h'),
                                         tensor("norm.weight", 'n')};
  ASSERT_TRUE(WriteSafetensors(Path("model.safetensors"), ToWrite(bare), {}).ok());
  const auto checkpoint = Checkpoint::Open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT(checkpoint->TensorNames(), ElementsAre("lm_head.weight", "model.embed_tokens.weight",
                                                     "model.layers.0.w", "model.norm.weight"));
  EXPECT_THAT(*checkpoint->Read("model.layers.0.w"), ElementsAre(std::byte{'l'}));
  EXPECT_EQ(checkpoint->Find("model.norm.weight")->entry->name, "model.norm.weight");
  // If one name has the prefix, all stay what they are.
  std::vector<NamedTensor> mixed = bare;
  mixed.push_back(tensor("model.x", 'x'));
  ASSERT_TRUE(WriteSafetensors(Path("model.safetensors"), ToWrite(mixed), {}).ok());
  EXPECT_EQ(Checkpoint::Open(directory_)->Find("model.norm.weight").status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(CheckpointTest, AnIndexThatLeadsElsewhereIsRefusedUnread) {
  WriteIndex("\"a\":\"../x.safetensors\"");
  EXPECT_THAT(OpenError(absl::StatusCode::kInvalidArgument), HasSubstr("../x.safetensors"));
}

TEST_F(CheckpointTest, AMalformedShardIsNamed) {
  WriteText("x.safetensors", "short");
  WriteIndex("\"a\":\"x.safetensors\"");
  EXPECT_THAT(OpenError(absl::StatusCode::kInvalidArgument), HasSubstr("file has 5 bytes"));
}

TEST_F(CheckpointTest, ReadTextFileIsBounded) {
  WriteText("config.json", "{\"a\":1}");
  EXPECT_EQ(*ReadTextFile(Path("config.json"), 7), "{\"a\":1}");
  EXPECT_EQ(ReadTextFile(Path("config.json"), 6).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadTextFile(Path("none.json"), 6).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadTextFile(directory_, 1 << 20).status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReadTextFile(Path("pipe"), 1 << 20).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace salient
