// Checks what can be read of a blob, and what happens when its file is not what it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/store/blob_store.h"
#include "server/store/chunk_sums.h"
#include "server/store/digest.h"
#include "server/store/layout.h"
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
  EXPECT_TRUE(store->Read(digest).ok()) << "opening looks at the size only";
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

// These are far more bytes than a chunk of checksums, and not a multiple of one.
constexpr size_t kManyBytes = 5 * ChunkSums::kChunkBytes + 1234;

TEST_F(ReadBlobsTest, ABitThatFlipsInAWholeIsFoundByWhateverReadsIt) {
  const auto store = OpenWith({});
  const std::string content = RandomBytes(20, kManyBytes);
  const Digest digest = DigestOf(content);
  for (const size_t flipped : {size_t{0}, size_t{70000}, kManyBytes - 1}) {
    for (const bool made_here : {false, true}) {
      if (made_here) {
        ASSERT_TRUE(store->Put(content).ok());
      } else {
        auto upload = store->BeginUpload(digest);
        ASSERT_EQ(Send(*upload, content, 0, 50000), absl::OkStatus());
        ASSERT_EQ(upload->Finish(), absl::OkStatus());
      }
      EXPECT_TRUE(store->IsVerified(digest));
      const auto opened_before = store->Read(digest);
      std::string damaged = content;
      damaged[flipped] ^= 0x10;
      testing::WriteFile(BlobPath(digest), damaged);
      const auto offset = static_cast<int64_t>(flipped);
      const auto reader = store->Read(digest);
      std::string run(100, '\0');
      const int64_t elsewhere = flipped == 0 ? 2 * ChunkSums::kChunkBytes : 0;
      EXPECT_EQ(reader->ReadAt(elsewhere, absl::MakeSpan(run)), absl::OkStatus());
      EXPECT_EQ(run, content.substr(static_cast<size_t>(elsewhere), 100));
      // The read is of any byte in the damaged chunk: nobody knows which one is wrong.
      const absl::Status found = reader->ReadAt(
          offset / ChunkSums::kChunkBytes * ChunkSums::kChunkBytes, absl::MakeSpan(&run[0], 1));
      EXPECT_EQ(found.code(), absl::StatusCode::kDataLoss);
      EXPECT_THAT(found.message(), HasSubstr(ToString(digest)));
      EXPECT_EQ(opened_before->ReadAt(offset, absl::MakeSpan(&run[0], 1)).code(),
                absl::StatusCode::kDataLoss);
      EXPECT_THAT(store->FindMissing({digest}), ElementsAre(digest));
      EXPECT_EQ(FileContent(directory_ / absl::StrCat("quarantine/", BlobName(digest))), damaged);
      EXPECT_EQ(store->Usage().blobs, 0);
    }
  }
}

TEST_F(ReadBlobsTest, ABitThatFlipsInAnUploadIsFoundBeforeItEnds) {
  const auto store = OpenWith({});
  const std::string content = RandomBytes(21, kManyBytes);
  const Digest digest = DigestOf(content);
  auto upload = store->BeginUpload(digest);
  // The upload ends within a chunk, of which what is there is checked.
  ASSERT_EQ(Send(*upload, content.substr(0, 100000), 0, 30000), absl::OkStatus());
  auto reader = store->ReadCommitted(digest, 0, 100000);
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::string damaged = content.substr(0, 100000);
  damaged[99999] ^= 1;
  testing::WriteFile(PartPath(digest), damaged);
  EXPECT_EQ(*reader->Next(65536), content.substr(0, 65536));
  EXPECT_EQ(reader->Next(1).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store->Status(digest).committed_bytes, 0) << "it is discarded";
  EXPECT_EQ(upload->Append(100000, "more").code(), absl::StatusCode::kAborted);
}

// Nobody has seen in this process what the blob was. So what is read first settles what it is, and
// the digest, whenever it is looked at, speaks of just that.
TEST_F(ReadBlobsTest, AfterARestartTheDigestVouchesForWhatWasReadBefore) {
  const std::string content = RandomBytes(22, kManyBytes);
  const Digest digest = DigestOf(content);
  ASSERT_TRUE(OpenWith({})->Put(content).ok());
  const std::string kept = BlobPath(digest);
  std::string damaged = content;
  damaged[70001] ^= 1;
  std::string run(10, '\0');
  for (const bool heals : {false, true}) {
    testing::WriteFile(kept, damaged);
    const auto store = OpenWith({});
    EXPECT_FALSE(store->IsVerified(digest));
    ASSERT_EQ(store->Read(digest)->ReadAt(70000, absl::MakeSpan(run)), absl::OkStatus());
    EXPECT_EQ(run, damaged.substr(70000, 10));
    if (heals) testing::WriteFile(kept, content);
    EXPECT_EQ(store->Verify(digest).code(), absl::StatusCode::kDataLoss) << heals;
    EXPECT_THAT(store->FindMissing({digest}), ElementsAre(digest));
  }
  testing::WriteFile(kept, content);
  const auto store = OpenWith({});
  ASSERT_EQ(store->Read(digest)->ReadAt(70000, absl::MakeSpan(run)), absl::OkStatus());
  ASSERT_EQ(store->Verify(digest), absl::OkStatus());
  EXPECT_TRUE(store->IsVerified(digest));
  testing::WriteFile(kept, damaged);
  EXPECT_EQ(store->Read(digest)->ReadAt(70000, absl::MakeSpan(run)).code(),
            absl::StatusCode::kDataLoss)
      << "rotten since";
}

TEST_F(ReadBlobsTest, VerifyingStopsWhenItIsTold) {
  const auto store = OpenWith({});
  const Digest digest = *store->Put("content");
  EXPECT_EQ(store->Verify(digest, [] { return absl::CancelledError("stop"); }),
            absl::CancelledError("stop"));
  EXPECT_TRUE(store->Status(digest).complete);
}

TEST_F(ReadBlobsTest, WhatWasReadOfAnUploadIsHeldAgainstTheBlob) {
  const auto store = OpenWith({});
  const std::string content = RandomBytes(23, kManyBytes);
  std::string wrong = content;
  wrong[80000] ^= 1;
  const Digest digest = DigestOf(content);
  auto bad = store->BeginUpload(digest);
  ASSERT_EQ(Send(*bad, wrong.substr(0, 90000), 0, 30000), absl::OkStatus());
  const auto reader = store->ReadCommitted(digest, 0, 90000);
  std::string run(10, '\0');
  ASSERT_EQ(reader->ReadAt(79999, absl::MakeSpan(run)), absl::OkStatus());
  auto good = store->BeginUpload(digest, BlobStore::Maker::kClient, 0);
  ASSERT_EQ(Send(*good, content.substr(0, 95000), 0, 30000), absl::OkStatus());
  const auto better = store->ReadCommitted(digest, 0, 95000);
  ASSERT_EQ(better->ReadAt(79999, absl::MakeSpan(run)), absl::OkStatus());
  EXPECT_EQ(*store->FindAgreeing(digest, *reader->sums()), nullptr);
  EXPECT_EQ(*store->FindAgreeing(digest, *better->sums()), better->sums()) << "it is the best";
  auto other = store->BeginUpload(digest, BlobStore::Maker::kClient, 0);
  ASSERT_EQ(Send(*other, content, 0, 30000), absl::OkStatus());
  ASSERT_EQ(other->Finish(), absl::OkStatus());
  EXPECT_EQ(*store->FindAgreeing(digest, *reader->sums()), nullptr);
  EXPECT_EQ(*store->FindAgreeing(digest, *better->sums()), store->Read(digest)->sums())
      << "the same bytes of another writer";
  EXPECT_EQ(reader->ReadAt(79999, absl::MakeSpan(run)).code(), absl::StatusCode::kAborted);
}

// The disk is not to blame, and nothing is taken out of the store.
TEST_F(ReadBlobsTest, AReaderOfBytesThatAreCutOffIsTold) {
  const auto store = Open();
  const std::string content = RandomBytes(24, 2500);
  const Digest digest = DigestOf(content);
  {
    auto left = store->BeginUpload(digest);
    ASSERT_EQ(left->Append(0, content.substr(0, 1100)), absl::OkStatus());
  }
  auto wrong = store->BeginUpload(digest);
  ASSERT_EQ(Send(*wrong, std::string(2500, '#'), 1100), absl::OkStatus());
  const auto reader = store->ReadCommitted(digest, 0, 2500);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(wrong->Finish().code(), absl::StatusCode::kInvalidArgument);
  std::string run(10, '\0');
  EXPECT_EQ(reader->ReadAt(2000, absl::MakeSpan(run)).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(store->Status(digest).committed_bytes, 1100);
}

}  // namespace
}  // namespace salient
