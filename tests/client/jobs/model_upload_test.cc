#include "client/jobs/model_upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "client/jobs/token_file.h"
#include "client/transfer/file_digest.h"
#include "core/safetensors/token_rows.h"
#include "core/tensor/dtype.h"
#include "tests/client/tensor_files.h"

namespace salient::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kIndex[] = "model.safetensors.index.json";

// Has two shards with an index, a tokenizer, and files that stay behind.
class ModelUploadTest : public ::testing::Test {
 protected:
  ModelUploadTest() {
    Write("config.json", "{\"model_type\": \"llama\"}");
    Write(kIndex,
          "{\"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\", "
          "\"b\": \"model-00002-of-00002.safetensors\"}}");
    Write("tokenizer.json", "{}");
    Write("pytorch_model.bin", "weights in another format");
    Write(".gitattributes", "hidden");
    WriteAndOpen(directory_.File("model-00001-of-00002.safetensors"),
                 {PatternTensor("a", DType::kF16, {8, 4}, 1)});
    WriteAndOpen(directory_.File("model-00002-of-00002.safetensors"),
                 {PatternTensor("b", DType::kF16, {4, 4}, 2)});
    WriteAndOpen(directory_.File("other.safetensors"),
                 {PatternTensor("c", DType::kF16, {4, 4}, 3)});
  }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(directory_.File(name), std::ios::binary) << text;
  }
  std::string Read(const std::string& name) const {
    std::ifstream file(directory_.File(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  absl::StatusOr<ModelUpload> Describe(int64_t inline_bytes = kInlineBytes) const {
    return DescribeModel(directory_.File(""), inline_bytes, [](int64_t) { return true; });
  }
  static std::vector<std::string> Names(const ModelUpload& upload) {
    std::vector<std::string> names;
    for (const v1::ModelFile& file : upload.manifest.files()) names.push_back(file.name());
    return names;
  }

  TemporaryDirectory directory_;
};

TEST_F(ModelUploadTest, WeightsThatTheIndexNamesAndWhatGoesAlong) {
  const auto upload = Describe();
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_THAT(Names(*upload), ElementsAre("config.json", kIndex, "model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors", "tokenizer.json"));
  EXPECT_THAT(upload->first, IsEmpty());
  ASSERT_EQ(upload->rest.size(), 5u);
  EXPECT_EQ(*BytesToHash(directory_.File("")), upload->Bytes());
  for (const v1::ModelFile& file : upload->manifest.files()) {
    EXPECT_EQ(DigestText(file.digest()), DigestText(DigestOfBytes(Read(file.name()))))
        << file.name();
  }
}

TEST_F(ModelUploadTest, ConfigIndexAndHeadersAreInline) {
  const auto upload = Describe();
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_EQ(upload->manifest.files(0).inline_content(), Read("config.json"));
  EXPECT_EQ(upload->manifest.files(1).inline_content(), Read(kIndex));
  const std::string shard = Read("model-00001-of-00002.safetensors");
  EXPECT_EQ(upload->manifest.files(2).inline_content(), shard.substr(0, shard.size() - 64))
      << "all but the 64 bytes of its tensor";
  EXPECT_EQ(upload->manifest.files(4).inline_content(), "");
}

TEST_F(ModelUploadTest, WhatIsTooLargeToBeInlineIsUploadedFirst) {
  // There is room for config.json only.
  const auto upload = Describe(30);
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_NE(upload->manifest.files(0).inline_content(), "");
  for (int i = 1; i < 5; ++i) EXPECT_EQ(upload->manifest.files(i).inline_content(), "") << i;
  ASSERT_EQ(upload->first.size(), 1u);
  EXPECT_THAT(upload->first[0].source, HasSubstr(kIndex));
  EXPECT_EQ(upload->rest.size(), 4u);
}

TEST_F(ModelUploadTest, HeadersAloneHashNoWeights) {
  int64_t hashed = 0;
  const auto upload = DescribeHeaders(directory_.File(""), kInlineBytes, [&](int64_t bytes) {
    hashed += bytes;
    return true;
  });
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_EQ(hashed, static_cast<int64_t>(Read("config.json").size() + Read(kIndex).size()));
  EXPECT_THAT(Names(*upload), ElementsAre("config.json", kIndex, "model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors"));
  EXPECT_THAT(upload->first, IsEmpty());
  EXPECT_THAT(upload->rest, IsEmpty());
  for (int i = 0; i < 2; ++i) {
    const v1::ModelFile& file = upload->manifest.files(i);
    EXPECT_EQ(DigestText(file.digest()), DigestText(DigestOfBytes(Read(file.name()))));
    EXPECT_EQ(file.inline_content(), Read(file.name()));
  }
  for (int i = 2; i < 4; ++i) {
    const v1::ModelFile& file = upload->manifest.files(i);
    const std::string shard = Read(file.name());
    EXPECT_EQ(file.digest().sha256(), "");
    EXPECT_EQ(file.digest().size_bytes(), static_cast<int64_t>(shard.size()));
    EXPECT_NE(file.inline_content(), "");
    EXPECT_EQ(file.inline_content(), shard.substr(0, file.inline_content().size()));
  }
}

TEST_F(ModelUploadTest, HeadersWithoutRoomAreFoundByTheDigestOfTheirFile) {
  const auto upload = DescribeHeaders(directory_.File(""), 30, [](int64_t) { return true; });
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->first.size(), 1u);
  EXPECT_THAT(upload->first[0].source, HasSubstr(kIndex));
  EXPECT_THAT(upload->rest, IsEmpty());
  for (const v1::ModelFile& file : upload->manifest.files()) {
    EXPECT_EQ(DigestText(file.digest()), DigestText(DigestOfBytes(Read(file.name()))));
  }
}

TEST_F(ModelUploadTest, StopsWhenTold) {
  const auto upload =
      DescribeModel(directory_.File(""), kInlineBytes, [](int64_t) { return false; });
  EXPECT_EQ(upload.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(ModelUploadTest, MissingConfigAndMissingShardAreNamed) {
  ASSERT_EQ(std::remove(directory_.File("model-00002-of-00002.safetensors").c_str()), 0);
  EXPECT_THAT(CheckModelDirectory(directory_.File("")).message(),
              HasSubstr("model-00002-of-00002.safetensors"));
  ASSERT_EQ(std::remove(directory_.File("config.json").c_str()), 0);
  const absl::Status status = CheckModelDirectory(directory_.File(""));
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("config.json"));
}

TEST(TokenFileTest, BlankTokensHaveTheShapeAsked) {
  const auto blank = BlankTokens(3, 7);
  ASSERT_TRUE(blank.ok()) << blank.status();
  EXPECT_EQ(DigestText(blank->digest), DigestText(DigestOfBytes(*blank->content)));
  const auto rows = ReadTokenRows(
      "blank", {reinterpret_cast<const std::byte*>(blank->content->data()), blank->content->size()},
      0, TokenUse::kScore);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 3u);
  for (const std::vector<int64_t>& row : *rows) EXPECT_EQ(row, std::vector<int64_t>(7, 0));
}

TEST(TokenFileTest, ImpossibleShapesAreRefused) {
  for (const auto& [rows, tokens] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1}, {1, 0}, {-1, 5}, {int64_t{1} << 40, int64_t{1} << 40}}) {
    EXPECT_EQ(BlankTokens(rows, tokens).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(TokenFileTest, FileWithoutTokenIdsIsNamed) {
  const TemporaryDirectory directory;
  WriteAndOpen(directory.File("t"), {Int64Tensor("ids", {1, 2})});
  const absl::Status status = TokenFile(directory.File("t")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(),
              HasSubstr(directory.File("t") + ": tensor \"input_ids\": is missing"));
}

// A user who brings a text is told how tokens are made of it.
TEST(TokenFileTest, OtherFilesAreNamedWithWhatMakesTokens) {
  const TemporaryDirectory directory;
  const std::string path = directory.File("corpus.txt");
  std::ofstream(path) << "Once upon a time there was";
  const absl::Status text = TokenFile(path).status();
  EXPECT_EQ(text.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(text.message(),
              HasSubstr("corpus.txt: is no safetensors file; it seems to be a text"));
  EXPECT_THAT(text.message(), HasSubstr("tokens.py MODEL TEXT"));
  const absl::Status missing = TokenFile(directory.File("wikitext")).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.message(), HasSubstr("tokens.py MODEL TEXT"));
}

TEST(TokenFileTest, TasksAreToldNameAndRows) {
  const LocalBlob blob = {DigestOfBytes("x"), "dir/a.safetensors", std::nullopt};
  const v1::TokenCalibration tokens = ToTokens(blob, {.rows = 3, .allow_long = true});
  EXPECT_EQ(DigestText(tokens.tokens()), DigestText(blob.digest));
  EXPECT_EQ(tokens.name(), "dir/a.safetensors");
  EXPECT_EQ(tokens.max_rows(), 3);
  EXPECT_TRUE(tokens.allow_long_rows());
  EXPECT_EQ(ToTokens({{}, "m\xFF", std::nullopt}, {}).name(), "\"m\\xff\"");
}

}  // namespace
}  // namespace salient::client
