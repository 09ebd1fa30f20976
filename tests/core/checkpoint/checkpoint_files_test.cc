#include "core/checkpoint/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace salient {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

fs::path MakeModelDirectory() {
  const fs::path path = fs::path(::testing::TempDir()) /
                        ::testing::UnitTest::GetInstance()->current_test_info()->name();
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

TEST(CheckpointFilesTest, TheNameDecidesTheRole) {
  const std::map<FileRole, std::vector<std::string>> roles = {
      {FileRole::kWeights,
       {"model.safetensors", "model-00002-of-00003.safetensors", "pytorch_model.safetensors"}},
      {FileRole::kIndex, {"model.safetensors.index.json"}},
      {FileRole::kConfig, {"config.json"}},
      {FileRole::kCarried,
       {"generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "preprocessor_config.json",
        "processor_config.json",
        "modeling_custom.py",
        "LICENSE",
        "m\xC3\xA9.json",
        "Llama3-License.md",
        "USE_POLICY.md",
        "NOTICE.txt",
        "qwen.tiktoken",
        "modules.json",
        "additional_chat_templates/tool_use.jinja",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors"}},
      {FileRole::kOtherWeights,
       {"pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json",
        "consolidated.safetensors", "consolidated.00.pth", "model.gguf", "tf_model.h5",
        "flax_model.msgpack", "model.onnx", "training_args.bin", "optimizer.pt"}},
      {FileRole::kLeftBehind,
       {"quantize_config.json", "quant_config.json", ".gitattributes", ".hidden.safetensors", "",
        "a/config.json", "..\\tokenizer.json", "line\nfeed.json", "m\xE9.json", "README.md",
        "adapter_config.json", "dataset.arrow", "events.out.tfevents.1",
        "additional_chat_templates/x.py", "additional_chat_templates/../tokenizer.json",
        "1_Pooling/.hidden", "1_Pooling/a/b.json", "_Pooling/config.json", "1_/config.json"}}};
  for (const auto& [role, names] : roles) {
    for (const std::string& name : names) EXPECT_EQ(RoleOf(name), role) << name;
  }
}

// Whoever guards what is read must see every file that an index could name.
TEST(CheckpointFilesTest, ListsFilesByNameAndFollowsLinks) {
  const fs::path directory = MakeModelDirectory();
  fs::create_directories(directory / "model" / "blobs");
  std::ofstream(directory / "model" / "blobs" / "1234") << "linked content";
  for (const char* name : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                           "model.safetensors.index.json", "config.json", "old.bin", ".lock",
                           "consolidated.safetensors", ".hidden.safetensors"}) {
    std::ofstream(directory / "model" / name) << "seven b";
  }
  fs::create_symlink("blobs/1234", directory / "model" / "tokenizer.json");
  fs::create_symlink("gone", directory / "model" / ".#lock");
  const auto files = ListModelDirectory((directory / "model").string());
  ASSERT_TRUE(files.ok()) << files.status();
  std::string found;
  for (const DirectoryFile& file : *files) {
    found += file.name + " " + std::to_string(file.size_bytes) + " " +
             std::to_string(static_cast<int>(file.role)) + "\n";
  }
  EXPECT_EQ(found,
            ".hidden.safetensors 7 4\n"
            ".lock 7 4\n"
            "blobs/ 0 4\n"
            "config.json 7 2\n"
            "consolidated.safetensors 7 0\n"
            "model-00001-of-00002.safetensors 7 0\n"
            "model-00002-of-00002.safetensors 7 0\n"
            "model.safetensors.index.json 7 1\n"
            "old.bin 7 5\n"
            "tokenizer.json 14 3\n");
}

// Calibration text that lies beside the model is no part of it.
TEST(CheckpointFilesTest, WithoutAnIndexOnlyTheSingleFileIsWeights) {
  const fs::path directory = MakeModelDirectory();
  for (const char* name : {"model.safetensors", "tokens.safetensors"}) {
    std::ofstream(directory / name) << "x";
  }
  const auto files = ListModelDirectory(directory.string());
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_EQ(files->size(), 2u);
  EXPECT_EQ((*files)[0].role, FileRole::kWeights);
  EXPECT_EQ((*files)[1].role, FileRole::kLeftBehind);
}

TEST(CheckpointFilesTest, SubdirectoriesThatReadersNeedAreCarriedAndOthersNamed) {
  const fs::path directory = MakeModelDirectory();
  for (const char* name : {"additional_chat_templates", "1_Pooling", "runs", ".git"}) {
    fs::create_directories(directory / name);
    std::ofstream(directory / name / "tool_use.jinja") << "x";
  }
  for (const char* name : {"model.safetensors", "config.json", "README.md", "old.bin"}) {
    std::ofstream(directory / name) << "x";
  }
  fs::create_directories(directory / "1_Pooling" / "deeper");
  std::ofstream(directory / "vocab.json") << "x";
  fs::resize_file(directory / "vocab.json", kMaxCarriedBytes + 1);
  const auto files = ListModelDirectory(directory.string());
  ASSERT_TRUE(files.ok()) << files.status();
  std::string carried;
  for (const DirectoryFile& file : *files) {
    if (file.role == FileRole::kCarried) carried += file.name + " ";
  }
  EXPECT_EQ(carried, "1_Pooling/tool_use.jinja additional_chat_templates/tool_use.jinja ");
  EXPECT_EQ(DescribeLeftBehind(*files),
            "left behind: README.md, runs/, vocab.json; tokenizer, templates, configuration, "
            "licences and code are taken along");
  std::vector<DirectoryFile> many = {{".hidden", 1}, {"old.bin", 1, FileRole::kOtherWeights}};
  EXPECT_EQ(DescribeLeftBehind(many), "");
  for (int i = 0; i < 10; ++i) many.push_back({"data" + std::to_string(i), 1});
  EXPECT_THAT(DescribeLeftBehind(many), HasSubstr("data7 and 2 more; tokenizer"));
}

TEST(CheckpointFilesTest, ErrorsNameThePath) {
  const fs::path directory = MakeModelDirectory();
  std::ofstream(directory / "file") << "x";
  const auto code_of = [](const fs::path& path) {
    const absl::Status status = ListModelDirectory(path.string()).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr(path.string()));
    return status.code();
  };
  EXPECT_EQ(code_of(directory / "missing"), absl::StatusCode::kNotFound);
  EXPECT_EQ(code_of(directory / "file"), absl::StatusCode::kInvalidArgument);
  fs::create_directory(directory / "broken");
  fs::create_symlink("gone", directory / "broken" / "tokenizer.json");
  const absl::Status status = ListModelDirectory((directory / "broken").string()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("broken/tokenizer.json"));
}

}  // namespace
}  // namespace salient
