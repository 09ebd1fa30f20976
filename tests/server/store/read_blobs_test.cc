// What can be read of a blob, and what happens when its file is not what it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/store/blob_store.h"
#include "tests/server/store/blob_store_fixture.h"

namespace salient {
namespace {

using ::salient::testing::FileContent;
using ::salient::testing::RandomBytes;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using ReadBlobsTest = testing::BlobStoreFixture;

TEST_F(ReadBlobsTest, ReadsARunOfABlob) {
  const auto store = Open();
  const std::string content = RandomBytes(2, 2500);
  const Digest digest = *store->Put(content);
  EXPECT_EQ(ReadAll(*store, digest, 100, 1000), content.substr(100, 1000));
  EXPECT_EQ(ReadAll(*store, digest, 2400, 1000), content.substr(2400)) << "limit beyond the end";
  EXPECT_EQ(ReadAll(*store, digest, 2499), content.substr(2499));
  EXPECT_EQ(ReadAll(*store, digest, 2500), "");
  const auto beyond = store->Read(digest, 2501);
  EXPECT_EQ(beyond.status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(beyond.status().message(), HasSubstr("expected at most 2500"));
  EXPECT_EQ(store->Read(digest, -1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store->Read(digest, 0, -1).status().code(), absl::StatusCode::kInvalidArgument);

  const auto reader = store->Read(digest, 0, 1000);
  std::vector<char> bytes(10);
  EXPECT_EQ(reader->ReadAt(990, absl::MakeSpan(bytes)), absl::OkStatus());
  EXPECT_EQ(std::string(bytes.data(), 10), content.substr(990, 10));
  EXPECT_EQ(reader->ReadAt(991, absl::MakeSpan(bytes)).code(), absl::StatusCode::kOutOfRange);
}

TEST_F(ReadBlobsTest, CommittedBytesAreReadableBeforeTheRest) {
  const auto store = Open();
  const std::string content = RandomBytes(9, 2500);
  const Digest digest = DigestOf(content);
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 1100)), absl::OkStatus());
  auto reader = store->ReadCommitted(digest, 100, 1000);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(store->ReadCommitted(digest, 100, 1001).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(store->ReadCommitted(digest, -1, 5).status().code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(Send(*upload, content, 1100), absl::OkStatus());
  ASSERT_EQ(upload->Finish(), absl::OkStatus());
  EXPECT_EQ(*reader->Next(5000), content.substr(100, 1000)) << "opened before, read after";
  EXPECT_EQ(*store->ReadCommitted(digest, 2000, 500)->Next(500), content.substr(2000));
}

TEST_F(ReadBlobsTest, ADamagedBlobGoesToQuarantine) {
  const auto store = Open();
  const std::string content = RandomBytes(10, 2500);
  const Digest digest = *store->Put(content);
  std::string damaged = content;
  damaged[2000] ^= 4;
  testing::WriteFile(BlobPath(digest), damaged);
  EXPECT_TRUE(store->Read(digest).ok()) << "reading looks at the size only";
  EXPECT_EQ(store->Verify(digest).code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(store->FindMissing({digest}), ElementsAre(digest));
  EXPECT_EQ(FileContent(directory_ / absl::StrCat("quarantine/", BlobName(digest))), damaged);
  EXPECT_EQ(store->Usage().used_bytes, 0);
  ASSERT_TRUE(store->Put(content).ok()) << "the blob may come again";
  EXPECT_EQ(store->Verify(digest), absl::OkStatus());

  std::filesystem::resize_file(BlobPath(digest), 2499);
  EXPECT_EQ(store->Read(digest).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store->Read(digest).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(store->Put(content).ok());
  auto reader = store->Read(digest);
  std::filesystem::resize_file(BlobPath(digest), 2000);
  EXPECT_EQ(reader->Next(2500).status().code(), absl::StatusCode::kDataLoss)
      << "shrunk under the reader";
  std::filesystem::remove(BlobPath(digest));
  EXPECT_EQ(store->Read(digest).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store->Usage().blobs, 0);
}

}  // namespace
}  // namespace salient
