#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"

namespace salient {
namespace {

using ::testing::HasSubstr;

// Makes a file of `json` and `data_bytes` bytes 0, 1, 2 ...
std::string MakeFile(const std::string& json, int data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>(json.size() >> (8 * i) & 0xFF);
  file += json;
  for (int i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

absl::StatusOr<SafetensorsView> ParseHeader(const std::string& file) {
  return SafetensorsView::Parse("in.safetensors",
                                {reinterpret_cast<const std::byte*>(file.data()), file.size()});
}

std::string Write(const std::string& name, const std::string& content) {
  const std::string path = ::testing::TempDir() + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

// Both ways in must agree.
std::string HeaderErrorOf(const std::string& file) {
  const auto view = ParseHeader(file);
  const std::string path = Write("reader_test.safetensors", file);
  const auto opened = SafetensorsFile::Open(path);
  std::remove(path.c_str());
  EXPECT_EQ(view.ok(), opened.ok());
  if (view.ok()) return "";
  EXPECT_EQ(view.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("reader_test.safetensors"));
  EXPECT_THAT(std::string(view.status().message()), HasSubstr("in.safetensors"));
  return std::string(view.status().message());
}

std::string I32(const std::string& name, int begin, int end) {
  return "\"" + name + "\":{\"dtype\":\"I32\",\"shape\":[" + std::to_string((end - begin) / 4) +
         "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

std::string Nested(int depth) {
  return std::string(static_cast<size_t>(depth), '[') +
         std::string(static_cast<size_t>(depth), ']');
}

struct Case {
  const char* what;
  std::string json;
  int data_bytes;
  const char* error;  // It is a part of the error; empty says that the file is accepted.
};

// Makes one tensor "a" of two I32 with one more field or another shape or offsets.
std::string One(const std::string& fields) { return "{\"a\":{" + fields + "}}"; }

// Lists what the reference reader accepts and rejects (safetensors 0.8, observed), and our own
// rules.
std::vector<Case> Cases() {
  const std::string good = "\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]";
  return {
      // These have wrong ranges.
      {"overlap", "{" + I32("a", 0, 8) + "," + I32("b", 4, 12) + "}", 12, "\"b\""},
      {"hole", "{" + I32("a", 0, 8) + "," + I32("b", 12, 16) + "}", 16, "begin at 12; expected 8"},
      {"first not at 0", "{" + I32("a", 4, 8) + "}", 8, "begin at 4; expected 0"},
      {"begin > end", One("\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[8,0]"), 8, "[8, 0]"},
      {"bytes after the last", One(good), 9, "9 bytes follow the header; expected 8"},
      {"missing bytes", One(good), 7, "7 bytes follow the header; expected 8"},
      {"any order in the header", "{" + I32("b", 8, 12) + "," + I32("a", 0, 8) + "}", 12, ""},
      // These have wrong sizes.
      {"size is not the product", One("\"dtype\":\"I32\",\"shape\":[3],\"data_offsets\":[0,8]"), 8,
       "8 bytes; expected 12"},
      {"product overflows",
       One("\"dtype\":\"I32\",\"shape\":[4294967296,4294967296],"
           "\"data_offsets\":[0,0]"),
       0, "2^64"},
      {"bytes overflow",
       One("\"dtype\":\"I32\",\"shape\":[4611686018427387904],"
           "\"data_offsets\":[0,0]"),
       0, "2^64"},
      {"2^63 elements",
       One("\"dtype\":\"I32\",\"shape\":[9223372036854775808],"
           "\"data_offsets\":[0,0]"),
       0, "9223372036854775808"},
      {"overflow before a zero",
       One("\"dtype\":\"I32\",\"shape\":[4611686018427387904,4,0],"
           "\"data_offsets\":[0,0]"),
       0, "2^64"},
      {"a zero before the overflow",
       One("\"dtype\":\"I32\",\"shape\":[0,4611686018427387904,4],"
           "\"data_offsets\":[0,0]"),
       0, ""},
      {"scalar", One("\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]"), 4, ""},
      {"zero-size", One("\"dtype\":\"I32\",\"shape\":[0,3],\"data_offsets\":[0,0]"), 0, ""},
      {"zero-size at a border",
       "{" + I32("a", 0, 8) + "," + I32("b", 8, 8) + "," + I32("c", 8, 12) + "}", 12, ""},
      {"zero-size inside a range", "{" + I32("a", 0, 8) + "," + I32("b", 4, 4) + "}", 8, "\"b\""},
      // These are wrong JSON.
      {"not JSON", "{]", 0, "JSON"},
      {"not UTF-8", "{\"\xff\":1}", 0, "JSON"},
      {"byte order mark", "\xEF\xBB\xBF{}", 0, "byte order mark"},
      {"trailing NUL", std::string("{}\0\0", 4), 0, "NUL"},
      {"empty", "", 0, "zeros"},
      {"array", "[]", 0, "an array of 0; expected an object"},
      {"empty object", "{}", 0, ""},
      {"empty object with bytes", "{}", 1, "1 bytes follow"},
      {"leading white space", " \n{}", 0, ""},
      {"trailing white space", "{} \n\r\t", 0, ""},
      {"unaligned",
       "{" + I32("a", 0, 4) +
           ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],"
           "\"data_offsets\":[4,5]}}   ",
       5, ""},
      {"extra field nested 100 deep", One(good + ",\"x\":" + Nested(100)), 8, ""},
      {"extra field nested 200 deep", One(good + ",\"x\":" + Nested(200)), 8, "levels"},
      {"extra field stands twice", One(good + ",\"x\":1,\"x\":2"), 8, ""},
      // These have wrong fields.
      {"unknown dtype", One("\"dtype\":\"I33\",\"shape\":[2],\"data_offsets\":[0,8]"), 8,
       "dtype is \"I33\""},
      {"lower-case dtype", One("\"dtype\":\"i32\",\"shape\":[2],\"data_offsets\":[0,8]"), 8,
       "dtype is \"i32\""},
      {"dtype of the format that we lack",
       One("\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]"), 8, ""},
      {"its bytes do not suit its shape",
       One("\"dtype\":\"F8_E4M3\",\"shape\":[7],\"data_offsets\":[0,8]"), 8,
       "data_offsets span 8 bytes; expected 7"},
      {"two elements a byte", One("\"dtype\":\"F4\",\"shape\":[16],\"data_offsets\":[0,8]"), 8, ""},
      {"half a byte", One("\"dtype\":\"F4\",\"shape\":[15],\"data_offsets\":[0,8]"), 8,
       "shape has no whole number of bytes for dtype F4"},
      {"four elements in three bytes",
       One("\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]"), 3, ""},
      {"dtype null", One("\"dtype\":null,\"shape\":[2],\"data_offsets\":[0,8]"), 8,
       "dtype is null"},
      {"no shape", One("\"dtype\":\"I32\",\"data_offsets\":[0,8]"), 8, "shape is missing"},
      {"no data_offsets", One("\"dtype\":\"I32\",\"shape\":[2]"), 8, "data_offsets is missing"},
      {"negative shape", One("\"dtype\":\"I32\",\"shape\":[-2],\"data_offsets\":[0,8]"), 8,
       "shape[0] is -2"},
      {"-0 in shape", One("\"dtype\":\"I32\",\"shape\":[-0],\"data_offsets\":[0,0]"), 0,
       "shape[0] is -0"},
      {"2.0 in shape", One("\"dtype\":\"I32\",\"shape\":[2.0],\"data_offsets\":[0,8]"), 8,
       "shape[0] is 2.0"},
      {"2e0 in shape", One("\"dtype\":\"I32\",\"shape\":[1,2e0],\"data_offsets\":[0,8]"), 8,
       "shape[1] is 2.0"},
      {"string in shape", One("\"dtype\":\"I32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]"), 8,
       "shape[0] is \"2\""},
      {"shape no array", One("\"dtype\":\"I32\",\"shape\":2,\"data_offsets\":[0,8]"), 8,
       "shape is 2"},
      {"3 offsets", One("\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8,8]"), 8,
       "an array of 3; expected an array of 2"},
      {"offset 8.0", One("\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8.0]"), 8, "8.0"},
      {"duplicate field", One(good + ",\"dtype\":\"I32\""), 8, "dtype stands twice"},
      {"tensor null", "{\"a\":null}", 0, "is null; expected an object"},
      {"unknown field", One(good + ",\"extra\":{\"dtype\":1}"), 8, ""},
      {"array form", "{\"a\":[\"I32\",[2],[0,8]]}", 8, ""},
      {"array form of 4", "{\"a\":[\"I32\",[2],[0,8],1]}", 8, "array of 4"},
      {"array form of 2", "{\"a\":[\"I32\",[2]]}", 8, "array of 2"},
      // These are about metadata.
      {"metadata", "{\"__metadata__\":{\"format\":\"pt\"}," + I32("a", 0, 8) + "}", 8, ""},
      {"two metadata", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ stands twice"},
      {"metadata of numbers", "{\"__metadata__\":{\"a\":1}}", 0, "__metadata__[\"a\"] is 1"},
      {"metadata with null", "{\"__metadata__\":{\"a\":null}}", 0, "__metadata__[\"a\"] is null"},
      {"metadata an array", "{\"__metadata__\":[]}", 0, "__metadata__ is an array"},
      {"metadata null", "{\"__metadata__\":null}", 0, ""},
      {"metadata key stands twice", "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, ""},
      // Names. Duplicates and empty ones are where we are stricter than the reference.
      {"duplicate, other range", "{" + I32("a", 0, 8) + "," + I32("a", 8, 12) + "}", 12,
       "\"a\": stands twice"},
      {"duplicate, identical", "{" + I32("a", 0, 8) + "," + I32("a", 0, 8) + "}", 8,
       "\"a\": stands twice"},
      {"duplicate, zero-size", "{" + I32("a", 0, 0) + "," + I32("a", 0, 0) + "}", 0, "twice"},
      {"empty name", "{" + I32("", 0, 8) + "}", 8, "empty name"},
      {"name of 512 bytes", "{" + I32(std::string(512, 'n'), 0, 8) + "}", 8, ""},
      {"name of 513 bytes", "{" + I32(std::string(513, 'n'), 0, 8) + "}", 8, "513 bytes"},
      {"rank 33",
       One("\"dtype\":\"I32\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
           "1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]"),
       4, "33 dimensions"},
  };
}

TEST(SafetensorsReaderTest, AcceptsAndRejectsWhatTheReferenceDoes) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.what);
    const std::string error = HeaderErrorOf(MakeFile(c.json, c.data_bytes));
    if (*c.error == '\0') {
      EXPECT_EQ(error, "");
    } else {
      EXPECT_THAT(error, HasSubstr(c.error));
    }
  }
}

// A tensor that nobody asks for may be of any dtype; whoever asks for it is told which.
TEST(SafetensorsReaderTest, TensorsOfOtherDTypesHaveAPlaceAndNoContent) {
  const std::string file = MakeFile("{" + I32("a", 0, 8) +
                                        ",\"b\":{\"dtype\":\"F8_E5M2\",\"shape\":[4],"
                                        "\"data_offsets\":[8,12]}," +
                                        I32("c", 12, 20) + "}",
                                    20);
  const auto view = ParseHeader(file);
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->header().tensors().size(), 2u);
  EXPECT_EQ((*view->Tensor("c"))[0], std::byte{12});
  EXPECT_EQ(view->header().Find("b"), nullptr);
  EXPECT_EQ(view->header().unreadable().at("b"), "F8_E5M2");
  EXPECT_THAT(std::string(view->Tensor("b").status().message()),
              HasSubstr("in.safetensors: tensor \"b\": dtype F8_E5M2 is not read here"));
  EXPECT_THAT(HeaderErrorOf(MakeFile("{" + I32("a", 0, 8) +
                                         ",\"a\":{\"dtype\":\"F8_E5M2\",\"shape\":[4],"
                                         "\"data_offsets\":[8,12]}}",
                                     12)),
              HasSubstr("stands twice"));
}

TEST(SafetensorsReaderTest, HeaderLengthIsCheckedBeforeItIsUsed) {
  const std::string good = MakeFile("{}", 0);
  EXPECT_THAT(HeaderErrorOf(""), HasSubstr("0 bytes; expected at least 8"));
  EXPECT_THAT(HeaderErrorOf(good.substr(0, 7)), HasSubstr("7 bytes; expected at least 8"));
  EXPECT_THAT(HeaderErrorOf(good.substr(0, 8)),
              HasSubstr("header length is 2 bytes; expected at most 0"));
  EXPECT_THAT(HeaderErrorOf(good.substr(0, 9)),
              HasSubstr("header length is 2 bytes; expected at most 1"));
  std::string huge = good;
  const uint64_t length = 100'000'001;
  std::memcpy(huge.data(), &length, sizeof(length));
  EXPECT_THAT(HeaderErrorOf(huge), HasSubstr("100000001 bytes; expected at most 100000000"));
  std::memset(huge.data(), 0xFF, 8);
  EXPECT_THAT(HeaderErrorOf(huge), HasSubstr("18446744073709551615 bytes"));
}

TEST(SafetensorsReaderTest, OtherFilesAreCalledWhatTheyAre) {
  const struct {
    std::string begin;
    const char* name;
  } cases[] = {{"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS pointer"},
               {std::string("GGUF\x03\0\0\0", 8), "GGUF"},
               {std::string("\x93NUMPY\x01\0v\0", 10), "NumPy"},
               {std::string("PK\x03\x04\0\0\x08\x08", 8), "ZIP archive, as torch.save"},
               {std::string("\x80\x02\x8a\x0al\xfc\x9c\x46", 8), "pickle"},
               {"{\"text\": \"Once upon a time\"}\n", "JSON"},
               {"<!DOCTYPE html>", "web page"},
               {"Once upon a time", "a text"},
               {"\xE5\x8F\xA4\xE4\xBB\x8A\xE4\xB8", "a text"},
               {std::string("\xFF\xFEO\0n\0c\0", 8), "UTF-16"},
               {std::string(4096, '\0'), "zeros"}};
  for (const auto& [begin, name] : cases) {
    EXPECT_THAT(HeaderErrorOf(begin + "12345678"), HasSubstr("is no safetensors file"));
    EXPECT_THAT(HeaderErrorOf(begin + "12345678"), HasSubstr(name));
    const std::string path = Write("other", begin + "12345678");
    EXPECT_THAT(std::string(SafetensorsFile::Open(path).status().message()), HasSubstr(name));
  }
}

TEST(SafetensorsReaderTest, EveryTruncationIsRejected) {
  const std::string file = MakeFile(
      "{\"__metadata__\":{\"format\":\"pt\"}," + I32("a", 0, 8) + "," + I32("b", 8, 20) + "}  ",
      20);
  ASSERT_EQ(HeaderErrorOf(file), "");
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(ParseHeader(file.substr(0, size)).ok()) << size;
  }
}

// No input may crash the parser; the sanitizers watch.
TEST(SafetensorsReaderTest, EveryFlippedByteGivesAnAnswer) {
  const std::string file = MakeFile("{" + I32("a", 0, 8) + "," + I32("b", 8, 20) + "}", 20);
  int accepted = 0;
  for (size_t i = 0; i < file.size() - 20; ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string broken = file;
      broken[i] = static_cast<char>(value);
      accepted += ParseHeader(broken).ok();
    }
  }
  EXPECT_GT(accepted, 0);
}

TEST(SafetensorsReaderTest, TooManyTensorsAreRefused) {
  std::string json = "{";
  for (int64_t i = 0; i <= kMaxSafetensorsTensors; ++i) {
    if (i > 0) json += ",";
    absl::StrAppend(&json, "\"", i, "\":[\"U8\",[0],[0,0]]");
  }
  EXPECT_THAT(HeaderErrorOf(MakeFile(json + "}", 0)), HasSubstr("262144"));
}

TEST(SafetensorsReaderTest, GivesTensorsInOrderOfBytesWithTheirContent) {
  const std::string file = MakeFile(
      "{\"__metadata__\":{\"format\":\"pt\",\"k\":\"v\"},"
      "\"second\":{\"dtype\":\"BF16\",\"shape\":[1,3],\"data_offsets\":[4,10]}," +
          I32("first", 0, 4) + "}",
      10);
  const auto view = ParseHeader(file);
  ASSERT_TRUE(view.ok()) << view.status();
  const auto& tensors = view->header().tensors();
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "first");
  EXPECT_EQ(tensors[1].name, "second");
  EXPECT_EQ(tensors[1].dtype, DType::kBF16);
  EXPECT_EQ(tensors[1].shape, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(tensors[1].begin, 4);
  EXPECT_EQ(tensors[1].SizeBytes(), 6);
  EXPECT_EQ(view->header().metadata().at("k"), "v");
  EXPECT_EQ(view->header().Find("first"), &tensors[0]);
  EXPECT_EQ(view->header().Find("third"), nullptr);
  EXPECT_EQ((*view->Tensor("second"))[5], std::byte{9});
  EXPECT_EQ(view->Tensor("third").status().code(), absl::StatusCode::kNotFound);

  const std::string path = Write("content.safetensors", file);
  auto opened = SafetensorsFile::Open(path);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const SafetensorsFile moved = *std::move(opened);
  const auto bytes = moved.ReadTensor("second");
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, (std::vector<std::byte>{std::byte{4}, std::byte{5}, std::byte{6}, std::byte{7},
                                            std::byte{8}, std::byte{9}}));
  std::vector<std::byte> part(2);
  ASSERT_TRUE(moved.ReadRange("second", 3, absl::MakeSpan(part)).ok());
  EXPECT_EQ(part, (std::vector<std::byte>{std::byte{7}, std::byte{8}}));
  EXPECT_EQ(moved.ReadRange("second", 5, absl::MakeSpan(part)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(moved.ReadRange("second", -1, absl::MakeSpan(part)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(moved.ReadTensor("third").status().code(), absl::StatusCode::kNotFound);

  // The file shrinks after it was opened.
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(file.size() - 1)), 0);
  EXPECT_EQ(moved.ReadTensor("second").status().code(), absl::StatusCode::kDataLoss);
  std::remove(path.c_str());
}

TEST(SafetensorsReaderTest, WhatIsNoFileIsAnError) {
  const std::string missing = ::testing::TempDir() + "no_such_file.safetensors";
  const auto opened = SafetensorsFile::Open(missing);
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr(missing));
  EXPECT_EQ(SafetensorsFile::Open(::testing::TempDir()).status().code(),
            absl::StatusCode::kInvalidArgument);
  const std::string fifo = ::testing::TempDir() + "reader_test.fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(SafetensorsFile::Open(fifo).status().code(), absl::StatusCode::kInvalidArgument);
  std::remove(fifo.c_str());
}

}  // namespace
}  // namespace salient
