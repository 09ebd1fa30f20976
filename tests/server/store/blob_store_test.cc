#include "server/store/blob_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/server/store/temporary_directory.h"

namespace salient {
namespace {

using ::salient::testing::FileContent;
using ::salient::testing::RandomBytes;
using ::salient::testing::TemporaryDirectory;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kInterval = 1000;

class BlobStoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<BlobStore> Open(BlobStoreLimits limits = {}) {
    limits.sync_interval_bytes = kInterval;
    auto store = BlobStore::Open(directory_.string(), limits);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }

  // Sends `content` from `offset` in pieces.
  static absl::Status Send(Upload& upload, const std::string& content, size_t offset = 0,
                           size_t piece = 700) {
    for (size_t at = offset; at < content.size(); at += piece) {
      absl::Status status = upload.Append(static_cast<int64_t>(at), content.substr(at, piece));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  static std::string ReadAll(BlobStore& store, const Digest& digest, int64_t offset = 0,
                             int64_t limit = 0) {
    auto reader = store.Read(digest, offset, limit);
    EXPECT_TRUE(reader.ok()) << reader.status();
    std::string all;
    while (reader.ok()) {
      const auto bytes = reader->Next(333);
      EXPECT_TRUE(bytes.ok()) << bytes.status();
      if (!bytes.ok() || bytes->empty()) break;
      all += *bytes;
    }
    return all;
  }

  std::string PartPath(const Digest& digest) const {
    return (directory_ / absl::StrCat("uploads/", BlobName(digest), ".part")).string();
  }
  std::string BlobPath(const Digest& digest) const {
    return (directory_ /
            absl::StrCat("blobs/sha256/", HexSha256(digest).substr(0, 2), "/", BlobName(digest)))
        .string();
  }

  const TemporaryDirectory directory_;
};

TEST_F(BlobStoreTest, WhatWasUploadedIsRead) {
  const auto store = Open();
  const std::string content = RandomBytes(1, 5 * kInterval + 17);
  const Digest digest = DigestOf(content);
  EXPECT_THAT(store->FindMissing({digest}), ElementsAre(digest));
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(Send(*upload, content), absl::OkStatus());
  EXPECT_EQ(store->Status(digest).committed_bytes, digest.size_bytes);
  EXPECT_FALSE(store->Status(digest).complete) << "before it was verified";
  EXPECT_EQ(store->Read(digest).status().code(), absl::StatusCode::kNotFound);
  ASSERT_EQ(upload->Finish(), absl::OkStatus());

  EXPECT_TRUE(store->Status(digest).complete);
  EXPECT_THAT(store->FindMissing({digest}), IsEmpty());
  EXPECT_EQ(ReadAll(*store, digest), content);
  EXPECT_EQ(FileContent(BlobPath(digest)), content);
  EXPECT_FALSE(std::filesystem::exists(PartPath(digest)));
  EXPECT_EQ(store->Verify(digest), absl::OkStatus());
  EXPECT_EQ(store->Usage().blobs, 1);
  EXPECT_EQ(store->Usage().uploads, 0);
  EXPECT_EQ(store->Usage().used_bytes, digest.size_bytes);
  EXPECT_EQ(store->BeginUpload(digest).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(upload->Append(digest.size_bytes, "").code(), absl::StatusCode::kAborted);
}

TEST_F(BlobStoreTest, FindMissingKeepsTheOrderOfTheRequest) {
  const auto store = Open();
  const Digest here = *store->Put("here");
  const Digest a = DigestOf("a");
  const Digest b = DigestOf("b");
  EXPECT_THAT(store->FindMissing({b, here, DigestOf(""), a, b}), ElementsAre(b, a, b));
  // The size is part of the name.
  const Digest longer = {here.sha256, here.size_bytes + 1};
  EXPECT_THAT(store->FindMissing({longer}), ElementsAre(longer));
}

TEST_F(BlobStoreTest, TheEmptyBlobIsAlwaysThere) {
  const auto store = Open();
  const Digest empty = DigestOf("");
  EXPECT_TRUE(store->Status(empty).complete);
  EXPECT_EQ(ReadAll(*store, empty), "");
  EXPECT_EQ(store->Verify(empty), absl::OkStatus());
  EXPECT_EQ(store->BeginUpload(empty).status().code(), absl::StatusCode::kAlreadyExists);
  // No other digest has size 0.
  Digest impossible = DigestOf("x");
  impossible.size_bytes = 0;
  auto upload = store->BeginUpload(impossible);
  ASSERT_TRUE(upload.ok()) << upload.status();
  EXPECT_EQ(upload->Finish().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(BlobStoreTest, ReadsARunOfABlob) {
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

// Before, at and behind a synced boundary, at the start, in the middle and at the end.
TEST_F(BlobStoreTest, AnUploadIsResumedAtAnyOffset) {
  const auto store = Open();
  const std::string content = RandomBytes(3, 3 * kInterval);
  const size_t offsets[] = {0, 1, 999, 1000, 1001, 1500, 1999, 2000, 2001, 2999, 3000};
  for (const size_t offset : offsets) {
    // A different content each time, so that each is a new upload.
    const std::string mine = absl::StrCat(offset, "-").append(content).substr(0, content.size());
    const Digest digest = DigestOf(mine);
    {
      auto upload = store->BeginUpload(digest);
      ASSERT_TRUE(upload.ok()) << upload.status();
      ASSERT_EQ(Send(*upload, mine.substr(0, offset)), absl::OkStatus());
    }
    EXPECT_EQ(store->Status(digest).committed_bytes, static_cast<int64_t>(offset));
    auto upload = store->BeginUpload(digest);
    ASSERT_TRUE(upload.ok()) << upload.status();
    ASSERT_EQ(upload->committed_bytes(), static_cast<int64_t>(offset));
    ASSERT_EQ(Send(*upload, mine, offset), absl::OkStatus());
    ASSERT_EQ(upload->Finish(), absl::OkStatus()) << "resumed at " << offset;
    EXPECT_EQ(ReadAll(*store, digest), mine) << "resumed at " << offset;
  }
}

TEST_F(BlobStoreTest, OnlyTheCommittedOffsetIsTaken) {
  const auto store = Open();
  const std::string content = RandomBytes(4, 2000);
  auto upload = store->BeginUpload(DigestOf(content));
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 1200)), absl::OkStatus());
  for (const int64_t offset : {int64_t{0}, int64_t{1199}, int64_t{1201}, int64_t{-1},
                               std::numeric_limits<int64_t>::max()}) {
    const absl::Status status = upload->Append(offset, "x");
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << offset;
    EXPECT_THAT(status.message(), HasSubstr("expected 1200"));
  }
  const absl::Status beyond = upload->Append(1200, std::string(801, 'x'));
  EXPECT_EQ(beyond.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(beyond.message(), HasSubstr("expected at most 800 more"));
  EXPECT_EQ(upload->Append(1200, ""), absl::OkStatus());
  ASSERT_EQ(Send(*upload, content, 1200), absl::OkStatus()) << "after refusals";
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
}

TEST_F(BlobStoreTest, FinishingEarlyKeepsWhatIsThere) {
  const auto store = Open();
  const std::string content = RandomBytes(5, 1500);
  auto upload = store->BeginUpload(DigestOf(content));
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 1499)), absl::OkStatus());
  const absl::Status early = upload->Finish();
  EXPECT_EQ(early.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(early.message(), HasSubstr("after 1499 bytes; expected 1500"));
  ASSERT_EQ(upload->Append(1499, content.substr(1499)), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
}

TEST_F(BlobStoreTest, AWholeWithAnotherDigestIsDiscarded) {
  const auto store = Open();
  std::string content = RandomBytes(6, 2500);
  const Digest digest = DigestOf(content);
  std::string wrong = content;
  wrong[1234] ^= 1;
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(Send(*upload, wrong), absl::OkStatus());
  const absl::Status status = upload->Finish();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(HexSha256(DigestOf(wrong))));
  EXPECT_EQ(store->Status(digest).committed_bytes, 0);
  EXPECT_FALSE(std::filesystem::exists(PartPath(digest)));
  EXPECT_EQ(store->Usage().used_bytes, 0);
  EXPECT_EQ(upload->Append(0, "x").code(), absl::StatusCode::kAborted);
  auto again = store->BeginUpload(digest);
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_EQ(Send(*again, content), absl::OkStatus());
  EXPECT_EQ(again->Finish(), absl::OkStatus());
}

TEST_F(BlobStoreTest, TheNewestWriterTakesOver) {
  const auto store = Open();
  const std::string content = RandomBytes(7, 2500);
  const Digest digest = DigestOf(content);
  auto older = store->BeginUpload(digest);
  ASSERT_TRUE(older.ok()) << older.status();
  ASSERT_EQ(older->Append(0, content.substr(0, 1100)), absl::OkStatus());
  auto newer = store->BeginUpload(digest);
  ASSERT_TRUE(newer.ok()) << newer.status();
  EXPECT_EQ(newer->committed_bytes(), 1100);
  EXPECT_EQ(older->Append(1100, content.substr(1100, 10)).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(older->Finish().code(), absl::StatusCode::kAborted);
  older = absl::CancelledError();  // dropping it must not close the newer one's file
  ASSERT_EQ(Send(*newer, content, 1100), absl::OkStatus());
  EXPECT_EQ(newer->Finish(), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

TEST_F(BlobStoreTest, AnUploadMayBeMoved) {
  const auto store = Open();
  auto first = store->BeginUpload(DigestOf("first"));
  auto second = store->BeginUpload(DigestOf("second"));
  ASSERT_TRUE(first.ok() && second.ok());
  Upload upload = *std::move(first);
  ASSERT_EQ(upload.Append(0, "fir"), absl::OkStatus());
  upload = *std::move(second);
  EXPECT_EQ(store->Status(DigestOf("first")).committed_bytes, 3);
  ASSERT_EQ(upload.Append(0, "second"), absl::OkStatus());
  EXPECT_EQ(upload.Finish(), absl::OkStatus());
}

TEST_F(BlobStoreTest, PutReplacesWhatAClientSentOfTheSameBlob) {
  const auto store = Open();
  const std::string content = RandomBytes(8, 2500);
  auto upload = store->BeginUpload(DigestOf(content));
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, std::string(1100, 'x')), absl::OkStatus());
  const auto digest = store->Put(content);
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, DigestOf(content));
  EXPECT_EQ(ReadAll(*store, *digest), content);
  EXPECT_EQ(upload->Append(1100, "x").code(), absl::StatusCode::kAborted);
  EXPECT_EQ(store->Put(content).status(), absl::OkStatus()) << "again";
  EXPECT_EQ(store->Usage().used_bytes, 2500);
}

TEST_F(BlobStoreTest, CommittedBytesAreReadableBeforeTheRest) {
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

TEST_F(BlobStoreTest, ADamagedBlobGoesToQuarantine) {
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

TEST_F(BlobStoreTest, DeletingABlobLeavesItsReadersAndAbortsItsWriter) {
  const auto store = Open();
  const std::string content = RandomBytes(11, 2500);
  const Digest digest = *store->Put(content);
  auto reader = store->Read(digest);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(store->Delete(digest), absl::OkStatus());
  EXPECT_EQ(*reader->Next(2500), content);
  EXPECT_EQ(store->Delete(digest).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(BlobPath(digest)));

  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 100)), absl::OkStatus());
  EXPECT_EQ(store->Delete(digest), absl::OkStatus());
  EXPECT_EQ(upload->Append(100, "x").code(), absl::StatusCode::kAborted);
  EXPECT_FALSE(std::filesystem::exists(PartPath(digest)));
  EXPECT_EQ(store->Usage().used_bytes, 0);
  EXPECT_EQ(store->Usage().uploads, 0);
}

TEST_F(BlobStoreTest, CapacityCountsUploadsAtTheirAnnouncedSize) {
  const auto store = Open({.capacity_bytes = 3000, .max_uploads = 2});
  const Digest large = DigestOf(RandomBytes(12, 2000));
  const Digest small = DigestOf(RandomBytes(13, 1000));
  const Digest tiny = DigestOf("t");
  EXPECT_EQ(store->BeginUpload(DigestOf(RandomBytes(14, 3001))).status().code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(store->BeginUpload(large).ok());
  EXPECT_EQ(store->Usage().used_bytes, 2000);
  EXPECT_EQ(store->BeginUpload(DigestOf(RandomBytes(15, 1001))).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store->Put(RandomBytes(15, 1001)).status().code(),
            absl::StatusCode::kResourceExhausted);
  ASSERT_TRUE(store->Put(RandomBytes(13, 1000)).ok());
  EXPECT_TRUE(store->BeginUpload(large).ok()) << "what was begun may go on";
  EXPECT_EQ(store->BeginUpload(tiny).status().code(), absl::StatusCode::kResourceExhausted);
  ASSERT_EQ(store->Delete(small), absl::OkStatus());
  ASSERT_TRUE(store->BeginUpload(tiny).ok());
  const auto too_many = store->BeginUpload(DigestOf("u"));
  EXPECT_EQ(too_many.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(too_many.status().message(), HasSubstr("2 uploads are unfinished"));
}

// The file system itself says no: by a limit on the size of files, which acts as a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    previous_handler_ = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &previous_);
    const rlimit limit = {bytes, previous_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &previous_);
    signal(SIGXFSZ, previous_handler_);
  }

 private:
  rlimit previous_;
  sighandler_t previous_handler_;
};

TEST_F(BlobStoreTest, AFullDiskLosesNothing) {
  const auto store = Open();
  const std::string content = RandomBytes(16, 5 * kInterval);
  const Digest digest = DigestOf(content);
  auto upload = store->BeginUpload(digest);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, content.substr(0, 1500)), absl::OkStatus());
  {
    // In the middle of the next append, behind the next boundary.
    const FileSizeLimit limit(2300);
    const absl::Status full = upload->Append(1500, content.substr(1500, 2000));
    EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
    EXPECT_EQ(upload->committed_bytes(), 1500);
    EXPECT_EQ(FileContent(PartPath(digest)), content.substr(0, 1500));
    EXPECT_EQ(store->Put(RandomBytes(17, 2500)).status().code(),
              absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(store->Usage().uploads, 1) << "what could not be put leaves nothing";
  }
  ASSERT_EQ(Send(*upload, content, 1500), absl::OkStatus());
  EXPECT_EQ(upload->Finish(), absl::OkStatus());
  EXPECT_EQ(ReadAll(*store, digest), content);
}

TEST_F(BlobStoreTest, UploadsExpireByTheirLastByteOrWriter) {
  const auto store = Open({.upload_ttl = absl::Hours(2)});
  const Digest idle = DigestOf("idle");
  const Digest whole = *store->Put("whole");
  auto upload = store->BeginUpload(idle);
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ(upload->Append(0, "id"), absl::OkStatus());
  EXPECT_EQ(*store->ExpireUploads(absl::Now() + absl::Hours(1)), 0);
  EXPECT_EQ(store->Status(idle).committed_bytes, 2);
  EXPECT_EQ(*store->ExpireUploads(absl::Now() + absl::Hours(3)), 1);
  EXPECT_EQ(store->Status(idle).committed_bytes, 0);
  EXPECT_FALSE(std::filesystem::exists(PartPath(idle)));
  EXPECT_EQ(upload->Append(2, "le").code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(store->Status(whole).complete);
  EXPECT_EQ(store->Usage().used_bytes, 5);
}

TEST_F(BlobStoreTest, DifferentBlobsAreUploadedAtOnce) {
  const auto store = Open();
  std::vector<std::string> contents;
  for (int i = 0; i < 8; ++i) contents.push_back(RandomBytes(100 + i, 20 * kInterval + i));
  std::vector<std::thread> threads;
  for (const std::string& content : contents) {
    threads.emplace_back([&store, &content] {
      auto upload = store->BeginUpload(DigestOf(content));
      ASSERT_TRUE(upload.ok()) << upload.status();
      EXPECT_EQ(Send(*upload, content), absl::OkStatus());
      EXPECT_EQ(upload->Finish(), absl::OkStatus());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& content : contents) {
    EXPECT_EQ(ReadAll(*store, DigestOf(content)), content);
  }
  EXPECT_EQ(store->Usage().blobs, 8);
}

// Writers that take the same blob from each other, while others ask, read, delete and expire.
TEST_F(BlobStoreTest, RivalsForOneBlobLeaveItWhole) {
  const auto store = Open();
  const std::string content = RandomBytes(200, 10 * kInterval);
  const Digest digest = DigestOf(content);
  const auto write = [&] {
    while (true) {
      auto upload = store->BeginUpload(digest);
      if (absl::IsAlreadyExists(upload.status())) return;
      ASSERT_TRUE(upload.ok()) << upload.status();
      absl::Status status = Send(*upload, content, static_cast<size_t>(upload->committed_bytes()));
      if (status.ok()) status = upload->Finish();
      // Between BeginUpload and here another may have written, finished or deleted it.
      EXPECT_TRUE(status.ok() || absl::IsAborted(status) || absl::IsOutOfRange(status)) << status;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(write);
  threads.emplace_back([&] {
    for (int i = 0; i < 50; ++i) {
      const BlobStatus status = store->Status(digest);
      if (status.committed_bytes > 0) store->ReadCommitted(digest, 0, 1).status().IgnoreError();
      store->FindMissing({digest, DigestOf("other")});
      store->Verify(digest).IgnoreError();
      if (i % 10 == 0) store->Delete(digest).IgnoreError();
      EXPECT_TRUE(store->ExpireUploads(absl::Now()).ok());
    }
  });
  threads.emplace_back([&] { EXPECT_EQ(store->Put(content).status(), absl::OkStatus()); });
  for (std::thread& thread : threads) thread.join();
  write();
  EXPECT_EQ(ReadAll(*store, digest), content);
  EXPECT_EQ(store->Verify(digest), absl::OkStatus());
  EXPECT_EQ(store->Usage().used_bytes, digest.size_bytes);
  EXPECT_EQ(store->Usage().blobs, 1);
  EXPECT_EQ(store->Usage().uploads, 0);
}

TEST_F(BlobStoreTest, AnUploadBegunWhileItIsDeletedIsANewOne) {
  const auto store = Open();
  const Digest digest = DigestOf("never sent");
  std::atomic<bool> done = false;
  std::thread deleter([&] {
    while (!done) store->Delete(digest).IgnoreError();
  });
  const auto begin = [&] {
    for (int i = 0; i < 1000; ++i) {
      const auto upload = store->BeginUpload(digest);
      EXPECT_TRUE(upload.ok()) << upload.status();  // above all not "is complete"
    }
  };
  std::thread rival(begin);
  begin();
  rival.join();
  done = true;
  deleter.join();
  ASSERT_TRUE(store->BeginUpload(digest).ok());
  EXPECT_EQ(store->Usage().uploads, 1);
  EXPECT_TRUE(std::filesystem::exists(PartPath(digest)));
}

}  // namespace
}  // namespace salient
