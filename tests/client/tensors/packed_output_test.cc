#include "client/tensors/packed_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <limits>

#include "client/terminal/errors.h"
#include "core/safetensors/safetensors.h"
#include "tests/client/file_contents.h"
#include "tests/client/tensor_files.h"

namespace salient::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PackedOutputTest : public ::testing::Test {
 protected:
  PackedOutput Create() {
    auto output = PackedOutput::Create(path_);
    EXPECT_TRUE(output.ok()) << output.status();
    return *std::move(output);
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_.File("packed.safetensors");
};

TEST_F(PackedOutputTest, TensorsReadBackWhateverTheOrderTheyCameIn) {
  PackedOutput output = Create();
  ASSERT_TRUE(output.BeginTensor("a.scales", DType::kF16, {2, 2}).ok());
  ASSERT_TRUE(output.Append("12345").ok());
  EXPECT_FALSE(output.Complete());
  ASSERT_TRUE(output.Append("678").ok());
  EXPECT_TRUE(output.Complete());
  ASSERT_TRUE(output.BeginTensor("empty", DType::kF32, {0, 3}).ok());
  EXPECT_TRUE(output.Complete());
  ASSERT_TRUE(output.BeginTensor("a.qweight", DType::kI32, {1}).ok());
  ASSERT_TRUE(output.Append("abcd").ok());
  ASSERT_TRUE(output.Commit({{"bits", "4"}}).ok());

  EXPECT_THAT(directory_.List(), ElementsAre("packed.safetensors"));
  const auto file = SafetensorsFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->header().tensors().size(), 3u);
  EXPECT_EQ(Text(*file->ReadTensor("a.scales")), "12345678");
  EXPECT_EQ(Text(*file->ReadTensor("a.qweight")), "abcd");
  EXPECT_THAT(file->header().Find("a.scales")->shape, ElementsAre(2, 2));
  EXPECT_EQ(file->header().metadata().at("bits"), "4");
}

TEST_F(PackedOutputTest, NothingIsThereBeforeCommit) {
  {
    PackedOutput output = Create();
    ASSERT_TRUE(output.BeginTensor("a", DType::kU8, {4}).ok());
    ASSERT_TRUE(output.Append("1234").ok());
    EXPECT_THAT(directory_.List(), IsEmpty());
  }
  EXPECT_THAT(directory_.List(), IsEmpty());
}

TEST_F(PackedOutputTest, UncommittedLeavesAnOldFileAsItIs) {
  std::ofstream(path_) << "old";
  { PackedOutput output = Create(); }
  std::string content;
  std::ifstream(path_) >> content;
  EXPECT_EQ(content, "old");
}

TEST_F(PackedOutputTest, TensorThatLacksBytesIsNotCommitted) {
  PackedOutput output = Create();
  ASSERT_TRUE(output.BeginTensor("a", DType::kU8, {4}).ok());
  ASSERT_TRUE(output.Append("123").ok());
  const absl::Status status = output.Commit({});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("\"a\""));
  EXPECT_THAT(directory_.List(), IsEmpty());
}

TEST_F(PackedOutputTest, DiskWithoutRoomIsNoBadInputAndLeavesNothing) {
  PackedOutput output = Create();
  ASSERT_TRUE(output.BeginTensor("a", DType::kU8, {4}).ok());
  ASSERT_TRUE(output.Append("1234").ok());
  // Nothing is longer than this for a while.
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small = {32, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = output.Commit({});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::signal(SIGXFSZ, before);
  EXPECT_EQ(ExitCodeOf(status), kExitDefect) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  EXPECT_THAT(directory_.List(), IsEmpty());
}

TEST_F(PackedOutputTest, SurplusBytesAreRefused) {
  PackedOutput output = Create();
  EXPECT_EQ(output.Append("x").code(), absl::StatusCode::kOutOfRange);
  ASSERT_TRUE(output.BeginTensor("a", DType::kU8, {4}).ok());
  EXPECT_EQ(output.Append("12345").code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(output.Append("1234").ok());
}

TEST_F(PackedOutputTest, BadTensorsAreRefused) {
  PackedOutput output = Create();
  ASSERT_TRUE(output.BeginTensor("a", DType::kU8, {0}).ok());
  EXPECT_EQ(output.BeginTensor("a", DType::kU8, {0}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(output.BeginTensor("", DType::kU8, {0}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(output.BeginTensor("b", DType::kU8, {-1}).code(), absl::StatusCode::kInvalidArgument);
  const int64_t huge = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(output.BeginTensor("b", DType::kF32, {huge}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(PackedOutputTest, PathThatCannotBeWrittenIsNamedAtOnce) {
  const std::string path = directory_.File("missing/packed.safetensors");
  const auto output = PackedOutput::Create(path);
  EXPECT_EQ(output.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(output.status().message(), HasSubstr(path));
  EXPECT_EQ(PackedOutput::Create(directory_.File("")).status().code(),
            absl::StatusCode::kInvalidArgument)
      << "a directory is no place for a file's bytes";
}

}  // namespace
}  // namespace salient::client
