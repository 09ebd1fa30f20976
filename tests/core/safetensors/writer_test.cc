#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> Bytes(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

std::string AsString(const std::vector<std::byte>& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::string ReadFile(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

int CountFiles(const std::string& directory) {
  int count = 0;
  DIR* dir = opendir(directory.c_str());
  while (const dirent* entry = readdir(dir)) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

std::string MakeDirectory(const std::string& name) {
  const std::string path = ::testing::TempDir() + name;
  mkdir(path.c_str(), 0700);
  return path;
}

std::vector<NamedTensor> ExampleTensors() {
  return {{"b.qweight",
           DType::kI32,
           {2, 2},
           Bytes({1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF, 3, 0, 0, 0, 4, 0, 0, 0})},
          {"a.scales", DType::kF16, {3}, Bytes({0, 0x3C, 0, 0x38, 0, 0xC0})},
          {"z", DType::kF64, {1}, Bytes({0, 0, 0, 0, 0, 0, 0xF8, 0x3F})},
          {"a\"\\\n\xC3\xA9/\x01", DType::kF32, {0, 3}, {}},
          {"m.flag", DType::kBool, {3}, Bytes({1, 0, 1})},
          {"a.count", DType::kI64, {}, Bytes({7, 0, 0, 0, 0, 0, 0, 0})},
          {"c", DType::kU8, {3}, Bytes({1, 2, 3})}};
}

// Returns what safetensors 0.8.0 (Python, safetensors.numpy.save) gives for ExampleTensors with
// metadata {"format": "pt"}.
std::string ExampleFile() {
  const std::string json =
      "{\"__metadata__\":{\"format\":\"pt\"},"
      "\"a.count\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
      "\"z\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[8,16]},"
      "\"a\\\"\\\\\\n\xC3\xA9/"
      "\\u0001\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[16,16]},"
      "\"b.qweight\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[16,32]},"
      "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[32,38]},"
      "\"c\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[38,41]},"
      "\"m.flag\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[41,44]}}      ";
  return std::string("\xD0\x01\0\0\0\0\0\0", 8) + json +
         AsString(Bytes({7,    0, 0, 0,    0, 0,    0,    0,    0,    0, 0, 0, 0, 0, 0xF8,
                         0x3F, 1, 0, 0,    0, 0xFE, 0xFF, 0xFF, 0xFF, 3, 0, 0, 0, 4, 0,
                         0,    0, 0, 0x3C, 0, 0x38, 0,    0xC0, 1,    2, 3, 1, 0, 1}));
}

TEST(SafetensorsWriterTest, BytesAreThoseOfTheReferenceWriter) {
  const std::vector<NamedTensor> tensors = ExampleTensors();
  const auto bytes = SerializeSafetensors(ToWrite(tensors), {});
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(AsString(*bytes), ExampleFile());
}

TEST(SafetensorsWriterTest, EmptyFileIsThatOfTheReferenceWriter) {
  const auto bytes = SerializeSafetensors({}, {{"format", "np"}});
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(AsString(*bytes),
            std::string("\x20\0\0\0\0\0\0\0", 8) + "{\"__metadata__\":{\"format\":\"pt\"}}");
}

TEST(SafetensorsWriterTest, FileAndMemoryAreEqualAndNothingIsLeftBehind) {
  const std::string directory = MakeDirectory("writer_test_same");
  const std::string path = directory + "/out.safetensors";
  const std::vector<NamedTensor> tensors = ExampleTensors();
  // A killed writer left this, and there is an older result.
  std::ofstream(path + ".partial-0") << "half";
  std::ofstream(path) << "old";
  ASSERT_TRUE(WriteSafetensors(path, ToWrite(tensors), {}).ok());
  EXPECT_EQ(ReadFile(path), ExampleFile());
  EXPECT_EQ(CountFiles(directory), 1);

  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  for (const NamedTensor& tensor : tensors) {
    const TensorEntry* entry = file->header().Find(tensor.name);
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->dtype, tensor.dtype);
    EXPECT_EQ(entry->shape, tensor.shape);
    EXPECT_EQ(*file->ReadTensor(tensor.name), tensor.data);
  }
  std::remove(path.c_str());
}

TEST(SafetensorsWriterTest, MetadataReadsBackSorted) {
  const auto bytes = SerializeSafetensors({}, {{"z", "1"}, {"a", "\"quoted\"\n"}});
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_THAT(AsString(*bytes), HasSubstr(R"({"a":"\"quoted\"\n","format":"pt","z":"1"})"));
  const auto view = SafetensorsView::Parse("x", *bytes);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->header().metadata().at("a"), "\"quoted\"\n");
}

TEST(SafetensorsWriterTest, WhatCannotBeReadIsNotWritten) {
  const std::string directory = MakeDirectory("writer_test_bad");
  const std::string path = directory + "/out.safetensors";
  struct Bad {
    const char* what;
    std::vector<NamedTensor> tensors;
    const char* error;
  };
  const std::vector<Bad> cases = {
      {"size", {{"w", DType::kF16, {2}, Bytes({1, 2, 3})}}, "3 bytes; expected 4"},
      {"duplicate",
       {{"w", DType::kU8, {1}, Bytes({1})}, {"w", DType::kI8, {1}, Bytes({1})}},
       "twice"},
      {"empty name", {{"", DType::kU8, {1}, Bytes({1})}}, "empty name"},
      {"reserved name", {{"__metadata__", DType::kU8, {1}, Bytes({1})}}, "__metadata__"},
      {"not UTF-8", {{"\xff", DType::kU8, {1}, Bytes({1})}}, "JSON"},
      {"negative", {{"w", DType::kU8, {-1, -1}, Bytes({1})}}, "shape[0] is -1"},
  };
  for (const Bad& bad : cases) {
    const absl::Status status = WriteSafetensors(path, ToWrite(bad.tensors), {});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.error)) << bad.what;
    EXPECT_FALSE(SerializeSafetensors(ToWrite(bad.tensors), {}).ok()) << bad.what;
  }
  EXPECT_EQ(CountFiles(directory), 0);
}

TEST(SafetensorsWriterTest, FileSystemErrorsNameThePath) {
  const std::string directory = MakeDirectory("writer_test_fs");
  const std::string nowhere = directory + "/missing/out.safetensors";
  const absl::Status status = WriteSafetensors(nowhere, {}, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(nowhere));

  // The target is a directory: the rename fails and the partial file goes.
  const std::string taken = MakeDirectory("writer_test_fs/taken");
  EXPECT_FALSE(WriteSafetensors(taken, {}, {}).ok());
  EXPECT_EQ(CountFiles(directory), 1);
}

}  // namespace
}  // namespace salient
