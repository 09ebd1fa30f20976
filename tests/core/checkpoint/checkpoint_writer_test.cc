#include "core/checkpoint/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <latch>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string ReadWritten(const fs::path& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

std::vector<std::string> NamesIn(const fs::path& directory) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::byte> Counting(size_t count, int first) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(first + 7 * i);
  return bytes;
}

class CheckpointWriterTest : public ::testing::Test {
 protected:
  CheckpointWriterTest() {
    parent_ = fs::path(::testing::TempDir()) /
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(parent_);
    fs::create_directories(parent_);
    out_ = (parent_ / "out").string();
  }
  ~CheckpointWriterTest() override { fs::remove_all(parent_); }

  std::optional<CheckpointWriter> Begin() {
    auto writer = CheckpointWriter::Create(out_);
    EXPECT_TRUE(writer.ok()) << writer.status();
    if (!writer.ok()) return std::nullopt;
    return *std::move(writer);
  }

  static SafetensorsLayout Layout(const std::vector<TensorShape>& tensors) {
    return *LayOutSafetensors("test", tensors, {});
  }

  fs::path parent_;
  std::string out_;
};

TEST_F(CheckpointWriterTest, AppearsCompleteAndOnlyWhenCommitted) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  std::string large(3 << 20, 'x');
  large += "end";
  std::ofstream(parent_ / "source") << large;
  const std::vector<TensorShape> shapes = {{"b", DType::kF16, {5}}, {"a", DType::kI32, {2, 2}}};
  EXPECT_TRUE(writer->WriteFile("config.json", "{}").ok());
  EXPECT_TRUE(writer->CopyFile("tokenizer.model", (parent_ / "source").string()).ok());
  EXPECT_TRUE(writer->AddSafetensors("model.safetensors", Layout(shapes)).ok());
  const std::vector<std::byte> a = Counting(16, 1);
  const std::vector<std::byte> b = Counting(10, 99);
  // They come in any order and any pieces.
  EXPECT_TRUE(writer->WriteTensor("b", 7, absl::MakeConstSpan(b).subspan(7)).ok());
  EXPECT_TRUE(writer->WriteTensor("a", 0, a).ok());
  EXPECT_TRUE(writer->WriteTensor("b", 0, absl::MakeConstSpan(b).subspan(0, 4)).ok());
  EXPECT_TRUE(writer->WriteTensor("b", 4, absl::MakeConstSpan(b).subspan(4, 3)).ok());
  EXPECT_FALSE(fs::exists(out_));
  const absl::Status committed = writer->Commit();
  ASSERT_TRUE(committed.ok()) << committed;
  writer.reset();

  EXPECT_THAT(NamesIn(parent_), ElementsAre("out", "source"));
  EXPECT_THAT(NamesIn(out_), ElementsAre("config.json", "model.safetensors", "tokenizer.model"));
  EXPECT_EQ(ReadWritten(fs::path(out_) / "config.json"), "{}");
  EXPECT_EQ(ReadWritten(fs::path(out_) / "tokenizer.model"), large);
  const std::vector<NamedTensor> tensors = {{"b", DType::kF16, {5}, b},
                                            {"a", DType::kI32, {2, 2}, a}};
  const std::vector<std::byte> expected = *SerializeSafetensors(ToWrite(tensors), {});
  EXPECT_EQ(ReadWritten(fs::path(out_) / "model.safetensors"),
            std::string(reinterpret_cast<const char*>(expected.data()), expected.size()));
}

TEST_F(CheckpointWriterTest, NothingIsLeftOfOneThatWasNotCommitted) {
  {
    auto writer = Begin();
    ASSERT_TRUE(writer.has_value());
    EXPECT_TRUE(writer->WriteFile("config.json", "{}").ok());
    EXPECT_THAT(NamesIn(parent_), ElementsAre(::testing::StartsWith("out.incomplete-")));
    CheckpointWriter moved = *std::move(writer);
    EXPECT_TRUE(moved.WriteFile("other", "x").ok());
  }
  EXPECT_THAT(NamesIn(parent_), IsEmpty());
}

TEST_F(CheckpointWriterTest, MissingBytesAreNoCheckpoint) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  const std::vector<TensorShape> shapes = {{"w", DType::kU8, {100}}, {"nothing", DType::kU8, {0}}};
  EXPECT_TRUE(writer->AddSafetensors("model.safetensors", Layout(shapes)).ok());
  const std::vector<std::byte> bytes = Counting(100, 0);
  EXPECT_TRUE(writer->WriteTensor("w", 0, absl::MakeConstSpan(bytes).subspan(0, 49)).ok());
  EXPECT_TRUE(writer->WriteTensor("w", 50, absl::MakeConstSpan(bytes).subspan(50)).ok());
  const absl::Status status = writer->Commit();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model.safetensors: tensor \"w\": 99 bytes were written; expected 100"));
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_TRUE(writer->WriteTensor("w", 49, absl::MakeConstSpan(bytes).subspan(49, 1)).ok());
  EXPECT_TRUE(writer->Commit().ok());
  EXPECT_TRUE(fs::exists(out_));
}

TEST_F(CheckpointWriterTest, EachByteIsTakenOnceAndInsideTheTensor) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  EXPECT_TRUE(writer->AddSafetensors("model.safetensors", Layout({{"w", DType::kU8, {100}}})).ok());
  const std::vector<std::byte> bytes = Counting(101, 0);
  const auto write = [&](int64_t offset, size_t count) {
    return writer->WriteTensor("w", offset, absl::MakeConstSpan(bytes).subspan(0, count)).code();
  };
  EXPECT_EQ(write(20, 20), absl::StatusCode::kOk);
  EXPECT_EQ(write(60, 20), absl::StatusCode::kOk);
  for (const auto& [offset, count] :
       {std::pair{0, 21}, {39, 1}, {20, 20}, {25, 5}, {10, 60}, {50, 11}, {79, 3}, {0, 100}}) {
    EXPECT_EQ(write(offset, count), absl::StatusCode::kInvalidArgument) << offset << " " << count;
  }
  EXPECT_EQ(write(-1, 1), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(write(99, 2), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(write(0, 101), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(write(int64_t{1} << 62, 1), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(write(100, 0), absl::StatusCode::kOk);
  EXPECT_EQ(writer->WriteTensor("v", 0, bytes).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(write(80, 20), absl::StatusCode::kOk);
  EXPECT_EQ(write(0, 20), absl::StatusCode::kOk);
  EXPECT_EQ(write(40, 20), absl::StatusCode::kOk);
  EXPECT_TRUE(writer->Commit().ok());
}

TEST_F(CheckpointWriterTest, WritersOfDifferentTensorsDoNotDisturbEachOther) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  std::vector<TensorShape> shapes;
  for (int i = 0; i < 4; ++i) shapes.push_back({std::to_string(i), DType::kU8, {5000}});
  EXPECT_TRUE(writer->AddSafetensors("model.safetensors", Layout(shapes)).ok());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&writer, i] {
      const std::vector<std::byte> bytes = Counting(5000, i);
      for (int64_t at = 0; at < 5000; at += 50) {
        EXPECT_TRUE(
            writer->WriteTensor(std::to_string(i), at, absl::MakeConstSpan(bytes).subspan(at, 50))
                .ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(writer->Commit().ok());
  const auto file = SafetensorsFile::Open(out_ + "/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(*file->ReadTensor(std::to_string(i)), Counting(5000, i));
}

TEST_F(CheckpointWriterTest, NamesThatLeadElsewhereAreRefused) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  for (const std::string& name :
       {std::string("../../x.safetensors"), std::string("a/b.safetensors"),
        std::string(".x.safetensors"), std::string("..\\x.safetensors"), std::string(),
        std::string("x\n.safetensors"), std::string(256, 'x') + ".safetensors",
        std::string("x\0.safetensors", 14)}) {
    for (const absl::Status& status :
         {writer->WriteFile(name, "x"), writer->CopyFile(name, "/proc/self/exe"),
          writer->AddSafetensors(name, Layout({{"w", DType::kU8, {0}}}))}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("file name is "));
    }
  }
  EXPECT_EQ(writer->AddSafetensors("model", Layout({})).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(writer->Commit().ok());
  EXPECT_THAT(NamesIn(out_), IsEmpty());
  EXPECT_THAT(NamesIn(parent_), ElementsAre("out"));
}

TEST_F(CheckpointWriterTest, SubdirectoriesThatReadersNeedAreMade) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  EXPECT_TRUE(writer->WriteFile("1_Pooling/config.json", "{}").ok());
  EXPECT_TRUE(writer->CopyFile("1_Pooling/status", "/proc/self/status").ok());
  EXPECT_EQ(writer->WriteFile("1_Pooling/config.json", "").code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(writer->WriteFile("1_Pooling", "").code(), absl::StatusCode::kAlreadyExists);
  ASSERT_TRUE(writer->Commit().ok());
  EXPECT_THAT(NamesIn(out_), ElementsAre("1_Pooling"));
  EXPECT_THAT(NamesIn(out_ + "/1_Pooling"), ElementsAre("config.json", "status"));
}

TEST_F(CheckpointWriterTest, NamesStandOnce) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  EXPECT_TRUE(writer->AddSafetensors("a.safetensors", Layout({{"w", DType::kU8, {0}}})).ok());
  EXPECT_EQ(writer->WriteFile("a.safetensors", "").code(), absl::StatusCode::kAlreadyExists);
  const absl::Status status =
      writer->AddSafetensors("b.safetensors", Layout({{"w", DType::kF32, {0}}}));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("b.safetensors: tensor \"w\" is also in a.safetensors"));
}

TEST_F(CheckpointWriterTest, OfFilesWithOneTensorThatComeTogetherOneIsTaken) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  const SafetensorsLayout layout = Layout({{"w", DType::kU8, {4}}});
  std::atomic<int> taken = 0;
  std::latch together(16);
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&, i] {
      together.arrive_and_wait();
      taken += writer->AddSafetensors(std::to_string(i) + ".safetensors", layout).ok() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, 1);
  // A file that could not be made holds no names.
  ASSERT_TRUE(writer->WriteFile("there.safetensors", "x").ok());
  const SafetensorsLayout other = Layout({{"v", DType::kU8, {4}}});
  EXPECT_EQ(writer->AddSafetensors("there.safetensors", other).code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(writer->AddSafetensors("free.safetensors", other).ok());
}

TEST_F(CheckpointWriterTest, ADestinationThatHoldsSomethingIsLeftAlone) {
  fs::create_directory(out_);
  std::ofstream(fs::path(out_) / "precious") << "data";
  EXPECT_EQ(CheckpointWriter::Create(out_).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(CheckpointWriter::Create(out_ + "/precious").status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(CheckpointWriter::Create(out_ + "/no/parent").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(CheckpointWriter::Create("").status().code(), absl::StatusCode::kInvalidArgument);
  // It could never be committed.
  fs::create_symlink("nowhere", parent_ / "link");
  EXPECT_EQ(CheckpointWriter::Create((parent_ / "link").string()).status().code(),
            absl::StatusCode::kAlreadyExists);
  fs::remove(parent_ / "link");
  EXPECT_THAT(NamesIn(parent_), ElementsAre("out"));
  EXPECT_EQ(ReadWritten(fs::path(out_) / "precious"), "data");

  // Somebody else is faster.
  out_ = (parent_ / "other").string();
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  fs::create_directory(out_);
  std::ofstream(fs::path(out_) / "precious") << "data";
  EXPECT_EQ(writer->Commit().code(), absl::StatusCode::kAlreadyExists);
  writer.reset();
  EXPECT_THAT(NamesIn(parent_), ElementsAre("other", "out"));
  EXPECT_THAT(NamesIn(out_), ElementsAre("precious"));
}

TEST_F(CheckpointWriterTest, AnEmptyDestinationIsReplacedAlsoBehindALink) {
  fs::create_directory(out_);
  chmod(out_.c_str(), 0710);
  fs::create_directory_symlink("out", parent_ / "link");
  for (const std::string& name : {out_ + "//", (parent_ / "link").string()}) {
    auto writer = CheckpointWriter::Create(name);
    ASSERT_TRUE(writer.ok()) << writer.status();
    EXPECT_TRUE(writer->WriteFile("config.json", "{}").ok());
    EXPECT_THAT(NamesIn(out_), IsEmpty());
    EXPECT_TRUE(writer->Commit().ok());
    EXPECT_THAT(NamesIn(parent_), ElementsAre("link", "out"));
    EXPECT_THAT(NamesIn(out_), ElementsAre("config.json"));
    EXPECT_EQ(fs::status(out_).permissions(), static_cast<fs::perms>(0710));
    EXPECT_TRUE(fs::is_symlink(parent_ / "link"));
    fs::remove(fs::path(out_) / "config.json");
  }
  // One that is given up leaves it as it was.
  ASSERT_TRUE(CheckpointWriter::Create(out_).ok());
  EXPECT_THAT(NamesIn(parent_), ElementsAre("link", "out"));
}

TEST_F(CheckpointWriterTest, ACopyStopsWhenItIsTold) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  std::ofstream(parent_ / "source") << std::string(5 << 20, 'x');
  int calls = 0;
  const absl::Status status =
      writer->CopyFile("tokenizer.model", (parent_ / "source").string(), [&]() -> absl::Status {
        if (++calls < 3) return absl::OkStatus();
        return absl::CancelledError("told to");
      });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(absl::IsCancelled(writer->Commit()));
}

TEST_F(CheckpointWriterTest, AFailedWriteCannotBeCommitted) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  EXPECT_EQ(writer->CopyFile("tokenizer.json", (parent_ / "missing").string()).code(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(writer->AddSafetensors("model.safetensors", Layout({{"w", DType::kU8, {1}}})).ok());
  // The directory is taken away under the writer.
  fs::remove_all(parent_ / NamesIn(parent_).front());
  EXPECT_EQ(writer->WriteTensor("w", 0, Counting(1, 1)).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(writer->Commit().code(), absl::StatusCode::kNotFound);
}

TEST_F(CheckpointWriterTest, RoomIsTakenBeforeTheWork) {
  auto writer = Begin();
  ASSERT_TRUE(writer.has_value());
  const absl::Status status =
      writer->AddSafetensors("model.safetensors", Layout({{"w", DType::kU8, {int64_t{1} << 50}}}));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors: cannot make room"));
  EXPECT_FALSE(writer->Commit().ok());
}

}  // namespace
}  // namespace salient
