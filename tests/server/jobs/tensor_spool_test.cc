#include "server/jobs/tensor_spool.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"
#include "tests/server/store/temporary_directory.h"

namespace salient {
namespace {

using testing::TemporaryDirectory;

NamedTensor Tensor(const std::string& name, size_t bytes) {
  NamedTensor tensor{name, DType::kI8, {static_cast<int64_t>(bytes)}, {}};
  for (size_t i = 0; i < bytes; ++i) {
    tensor.data.push_back(static_cast<std::byte>((i * 7 + name.size()) % 251));
  }
  return tensor;
}

// Returns the bytes on disk, whatever the file's size says.
int64_t BytesOnDisk(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(stat(path.c_str(), &info), 0);
  return int64_t{512} * info.st_blocks;
}

TEST(TensorSpoolTest, ReplaysWhatItWasGivenInItsOrder) {
  TemporaryDirectory directory;
  auto spool = TensorSpool::Create((directory / "work").string(), "spool", 1 << 20);
  ASSERT_TRUE(spool.ok()) << spool.status();
  const std::vector<NamedTensor> tensors = {Tensor("a", 3), Tensor("bb", (1 << 20) + 5),
                                            Tensor("ccc", 0), Tensor("dddd", 70)};
  for (const NamedTensor& tensor : tensors) ASSERT_TRUE(spool->Add(tensor).ok());
  ASSERT_TRUE(spool->Close().ok());
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::byte>> found;
  const absl::Status status = spool->Replay(
      [&](const std::string& name, int64_t offset, absl::Span<const std::byte> bytes) {
        std::vector<std::byte>& whole = found[name];
        EXPECT_EQ(offset, static_cast<int64_t>(whole.size())) << name;
        EXPECT_LE(bytes.size(), size_t{1} << 20);
        if (offset == 0) order.push_back(name);
        whole.insert(whole.end(), bytes.begin(), bytes.end());
        return absl::OkStatus();
      });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(order, (std::vector<std::string>{"a", "bb", "dddd"}));
  for (const NamedTensor& tensor : tensors) EXPECT_EQ(found[tensor.name], tensor.data);
}

TEST(TensorSpoolTest, SaysAtOnceThatTheDiskIsTooSmall) {
  TemporaryDirectory directory;
  const auto spool = TensorSpool::Create((directory / "work").string(), "spool", int64_t{1} << 60);
  EXPECT_TRUE(absl::IsResourceExhausted(spool.status())) << spool.status();
}

TEST(TensorSpoolTest, GivesBackTheRoomThatItDidNotTake) {
  TemporaryDirectory directory;
  constexpr int64_t kRoom = 8 << 20;
  auto spool = TensorSpool::Create((directory / "work").string(), "spool", kRoom);
  ASSERT_TRUE(spool.ok()) << spool.status();
  const std::string path = (directory / "work" / "spool").string();
  if (BytesOnDisk(path) < kRoom) GTEST_SKIP() << "SKIPPED: this file system sets no room aside";
  ASSERT_TRUE(spool->Add(Tensor("a", 100)).ok());
  ASSERT_TRUE(spool->Close().ok());
  EXPECT_LT(BytesOnDisk(path), 1 << 20);
}

}  // namespace
}  // namespace salient
