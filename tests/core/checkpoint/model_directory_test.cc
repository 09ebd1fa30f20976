#include "core/checkpoint/model_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

class ModelDirectoryTest : public ::testing::Test {
 protected:
  ModelDirectoryTest() {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  ~ModelDirectoryTest() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, const std::string& text = "{}") const {
    const std::filesystem::path path = directory_ + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }

  // Returns what is wrong with a path inside the directory; the error has to name it.
  std::string Fault(const std::string& inside = "") const {
    const std::string path = directory_ + inside;
    const absl::Status status = CheckIsModelDirectory(path);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
    return std::string(status.message());
  }

  const std::string directory_ =
      absl::StrCat(::testing::TempDir(), "model_directory_test_",
                   ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(ModelDirectoryTest, ConfigAndWeightsAreAModel) {
  Write("config.json");
  Write("model.safetensors");
  EXPECT_EQ(CheckIsModelDirectory(directory_), absl::OkStatus());
  std::filesystem::rename(directory_ + "/model.safetensors",
                          directory_ + "/model.safetensors.index.json");
  EXPECT_EQ(CheckIsModelDirectory(directory_), absl::OkStatus());
}

TEST_F(ModelDirectoryTest, NamesToDownloadAreToldFromPaths) {
  const absl::Status hub = CheckIsModelDirectory("meta-llama/Llama-3.2-1B");
  EXPECT_EQ(hub.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(hub.message()), HasSubstr("hf download meta-llama/Llama-3.2-1B "));
  EXPECT_THAT(Fault("/nowhere"), HasSubstr("is not there"));
  for (const char* path : {"nowhere", "a/b/c", "./a", "../a", "a/", "/a"}) {
    const std::string message(CheckIsModelDirectory(path).message());
    EXPECT_EQ(message.find("hf download"), message.npos) << path;
  }
}

TEST_F(ModelDirectoryTest, FilesAreCalledWhatTheyAre) {
  Write("m.gguf", std::string("GGUF\x03\0\0\0", 8));
  EXPECT_THAT(Fault("/m.gguf"), HasSubstr("GGUF file"));
  Write("model.safetensors", std::string("\x10\0\0\0\0\0\0\0{}", 10));
  EXPECT_THAT(Fault("/model.safetensors"),
              HasSubstr("is not a directory; expected that of a model"));
}

TEST_F(ModelDirectoryTest, OfADownloadCacheTheSnapshotIsNamed) {
  Write("blobs/aa");
  Write("snapshots/0123/config.json");
  EXPECT_THAT(Fault(), HasSubstr("expected " + directory_ + "/snapshots/0123"));
  Write("snapshots/4567/config.json");
  Write("refs/main", "4567\n");
  EXPECT_THAT(Fault(), HasSubstr("expected " + directory_ + "/snapshots/4567"));
  Write("refs/main", "89ab");
  EXPECT_THAT(Fault(), HasSubstr("/snapshots/0123"));
}

TEST_F(ModelDirectoryTest, OfManyModelsOneIsNamed) {
  Write("models--x--y/snapshots/0123/config.json");
  EXPECT_THAT(Fault(), HasSubstr("/models--x--y/snapshots/REVISION"));
}

TEST_F(ModelDirectoryTest, AnAdapterNamesItsModel) {
  Write("adapter_model.safetensors");
  Write("adapter_config.json", "{\"base_model_name_or_path\": \"x/base\"}");
  EXPECT_THAT(Fault(), HasSubstr("an adapter of \"x/base\"; expected a whole model"));
  Write("adapter_config.json", "[");
  Write("config.json");
  EXPECT_THAT(Fault(), HasSubstr("an adapter of a model"));
}

TEST_F(ModelDirectoryTest, WeightsInAnotherFormAreNamed) {
  Write("config.json");
  EXPECT_THAT(Fault(), HasSubstr("has neither model.safetensors nor model.safetensors.index.json"));
  Write("training_args.bin");
  EXPECT_THAT(Fault(), HasSubstr("has neither model.safetensors"));
  Write("model-00001-of-00002.safetensors");
  EXPECT_THAT(Fault(), HasSubstr("has model-00001-of-00002.safetensors but neither"));
  Write("model.Q4_K_M.gguf");
  EXPECT_THAT(Fault(), HasSubstr("has model.Q4_K_M.gguf, which only llama.cpp reads"));
  Write("pytorch_model-00001-of-00002.bin");
  EXPECT_THAT(Fault(), HasSubstr("has pytorch_model-00001-of-00002.bin, which is not read"));
  EXPECT_THAT(Fault(), HasSubstr("save_pretrained"));
}

TEST_F(ModelDirectoryTest, ADirectoryWithoutConfigNamesIt) {
  Write("model.safetensors");
  EXPECT_THAT(Fault(), HasSubstr("/config.json: is not there"));
  Write("model_index.json");
  EXPECT_THAT(Fault(), HasSubstr("a pipeline of several models"));
}

}  // namespace
}  // namespace salient
